"""The page itself: its sections in their order, in one HTML file that needs nothing beside it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from posa_vla.console import say
from posa_vla.files import write_bytes, write_text
from posa_vla.html_page import page
from posa_vla.pipeline.report.changes import code_changes, data_changes, parameter_changes, unknown_champion
from posa_vla.pipeline.report.episodes import attention, videos
from posa_vla.pipeline.report.facts import RetrainingFacts
from posa_vla.pipeline.report.made_of import made_of
from posa_vla.pipeline.report.offline import offline
from posa_vla.pipeline.report.section import Section, text
from posa_vla.pipeline.report.success import success, success_picture
from posa_vla.pipeline.report.verdict import verdict
from posa_vla.pipeline.report.words import verdict_name

REPORT, PICTURE = "report.html", "success.png"
# Folder of the report among a run's artifacts.
ARTIFACTS = "report"
# What the page has, from top to bottom. A section of a subject of its own is one function more.
SECTIONS: tuple[Callable[[RetrainingFacts], Section | None], ...] = (
    verdict,
    success,
    offline,
    videos,
    attention,
    unknown_champion,
    data_changes,
    parameter_changes,
    code_changes,
    made_of,
)
_STYLE = """
.badge{display:inline-block;font-weight:600;font-size:1.15rem;padding:.2rem .8rem;border-radius:.4rem;
border:1px solid currentColor}.good{color:var(--good)}.bad{color:var(--bad)}.open{color:var(--warn)}
.chart img{width:36rem}.media{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,20rem),1fr));gap:1rem}
.media video{width:100%;background:#000}.wide{overflow-x:auto}.wide img{max-width:none;height:auto;width:72rem}
.failed{border-left:.3rem solid var(--bad);background:var(--panel);padding:.5rem .8rem}
summary{cursor:pointer;color:var(--quiet)}
"""


def _drawn(draw: Callable[[RetrainingFacts], Section | None], facts: RetrainingFacts) -> Section | None:
    """A section; where it cannot be made the page says so in its place, and so does the run.

    The verdict is on record by then, and stays what it is whatever a picture does.
    """
    try:
        return draw(facts)
    except Exception as error:  # whatever it is, the other sections and the retraining go on
        name = draw.__name__.replace("_", " ")
        problem = f"section {name!r} of the report could not be made ({type(error).__name__}: {error})"
        say(f"warning: {problem}; the verdict stands")
        return Section(name.capitalize(), f"<p class=failed>{text(problem)}</p>")


def make_page(facts: RetrainingFacts) -> str:
    """The page as HTML."""
    sections = [section for draw in SECTIONS if (section := _drawn(draw, facts)) is not None]
    body = "".join(f"<section><h2>{text(section.title)}</h2>{section.body}</section>" for section in sections)
    return page(f"Retraining of {facts.target}: {verdict_name(facts).lower()}", body, _STYLE)


def write_report(folder: Path, facts: RetrainingFacts) -> Path:
    """Writes the page, `report.html`, and the picture of success, `success.png`, into a folder.

    A picture that cannot be drawn is missing, and said on the page and to whoever watches the run.

    Args:
        folder: Folder of this retraining; made where it is missing.
        facts: See `gather_facts`.

    Returns:
        The page's path.
    """
    picture = None
    try:
        picture = success_picture(facts)
    except Exception as error:  # the section of the page says the same
        say(f"warning: the picture of success could not be drawn ({type(error).__name__}: {error})")
    if picture is not None:
        write_bytes(folder / PICTURE, picture)
    write_text(folder / REPORT, make_page(facts))
    return folder / REPORT
