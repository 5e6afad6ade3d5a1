"""A judgement as drawings and as one HTML page that needs nothing beside it."""

from __future__ import annotations

import html
import math

from posa_vla.evidence.judgement import REJECT_LEVEL, Judgement
from posa_vla.evidence.svg_chart import Line, line_chart
from posa_vla.html_page import page

# Powers of ten below which evidence is drawn at the edge: it speaks against the claim, and how much does not matter.
_LEAST = -2.0


def _unit(judgement: Judgement) -> str:
    return "trials of each side" if judgement.gained is None else "pairs"


def evidence_chart(judgement: Judgement) -> str:
    """Both e-values over the trials, with the height at which each decides."""
    support, against = (side / math.log(10) for side in (judgement.course.support, judgement.course.against))
    trials = list(range(1, len(support) + 1))
    needed, enough = -math.log10(judgement.level), -math.log10(REJECT_LEVEL)
    ends = [trials[0], trials[-1]]
    top = max(float(support.max()), float(against.max()), needed, enough) + 0.3
    lines = [
        Line("for the candidate", trials, [float(v) for v in support]),
        Line("against it", trials, [float(v) for v in against]),
        Line(f"promote at {1 / judgement.level:,.0f}", ends, [needed, needed], dashed=True),
        Line(f"reject at {1 / REJECT_LEVEL:,.0f}", ends, [enough, enough], dashed=True),
    ]
    return line_chart(
        "Evidence over the trials", _unit(judgement), "e-value", lines, y_range=(_LEAST, top), powers_of_ten=True
    )


def difference_chart(judgement: Judgement) -> str:
    """The 95 % confidence sequence of the difference in mean score over the trials."""
    trials = list(range(1, len(judgement.low) + 1))
    low, high = ([float(v) for v in side] for side in (judgement.low, judgement.high))
    ends, edge = [trials[0], trials[-1]], -judgement.margin
    lines = [
        Line("95 % bounds", trials, [(a + b) / 2 for a, b in zip(low, high, strict=True)], low, high),
        Line("minus the margin" if judgement.margin else "no difference", ends, [edge, edge], dashed=True),
    ]
    return line_chart(
        "Difference in score over the trials", _unit(judgement), "candidate - champion", lines, y_range=(-1.0, 1.0)
    )


def judgement_page(judgement: Judgement, candidate: str, champion: str, notes: list[str]) -> str:
    """The page.

    Args:
        judgement: What was found.
        candidate: Where its trials are from.
        champion: Likewise.
        notes: What a reader has to know of the trials.
    """
    facts = {
        "candidate": f"{candidate}: mean score {judgement.candidate:.3f} of {judgement.counts[0]} trials",
        "champion": f"{champion}: mean score {judgement.champion:.3f} of {judgement.counts[1]} trials",
        "asked": judgement.kind + (f", margin {judgement.margin:g}" if judgement.margin else ""),
        "false promotion": f"a chance of at most {judgement.level:g}, however often one looks",
        "e-value": f"{10 ** min(judgement.to_json()['log10_e'], 300):.3g} at the end, "
        f"{1 / judgement.level:.4g} promotes",
    }
    if judgement.gained is not None:
        facts["scenes"] = f"better on {judgement.gained}, worse on {judgement.lost}, equal on the others"
    if judgement.half_margin is not None:
        facts["price"] = (
            f"a candidate that is worse by {judgement.margin / 2:g} would be promoted with a chance of "
            f"{judgement.half_margin:.2f}"
        )
    listed = "".join(f"<dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd>" for name, value in facts.items())
    said = "".join(f"<p class=warning>{html.escape(note)}</p>" for note in notes)
    body = (
        f"<p><b>{html.escape(judgement.sentence())}.</b></p>{said}<dl>{listed}</dl>"
        f"<h2>Evidence</h2><div class=scroll>{evidence_chart(judgement)}</div>"
        f"<h2>Difference</h2><div class=scroll>{difference_chart(judgement)}</div>"
    )
    return page(f"{judgement.verdict}: {candidate} against {champion}", body)
