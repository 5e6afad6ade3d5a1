"""All episodes of a store at a glance: one picture each with its anchors, so that the odd ones stand out."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping

from posa_vla.console import progress
from posa_vla.dataset.labels import anchor_labels
from posa_vla.dataset.validation.drawn_anchors import drawn, key_of
from posa_vla.dataset.validation.findings import Finding
from posa_vla.episodes.embodiment import Embodiment
from posa_vla.episodes.episode import Episode
from posa_vla.episodes.lerobot.reader import DatasetReader, EpisodeRecord
from posa_vla.episodes.store.declared import judged_by
from posa_vla.errors import BadInput
from posa_vla.html_page import page

# Longer side of a picture on the sheet, pixels.
_SIDE = 176
_STYLE = """
body{max-width:none}.sheet{display:grid;gap:.8rem;grid-template-columns:repeat(auto-fill,minmax(11rem,1fr))}
.sheet figure{background:var(--panel);padding:.3rem;border-radius:.3rem}.sheet img{display:block;margin:0 auto .2rem}
.sheet figcaption{font-size:.8rem;overflow-wrap:anywhere}.odd{outline:2px solid var(--warn)}
.severe figcaption{color:inherit;font-weight:400}.key{display:flex;flex-wrap:wrap;gap:.1rem .9rem;font-size:.85rem}
"""


def contact_sheet(
    chosen: list[tuple[DatasetReader, EpisodeRecord]],
    declared: Mapping[str, Embodiment],
    findings: list[Finding],
    widths: tuple[float, float],
) -> str:
    """A page with the first frame of every episode, in every camera: nothing hides yet what the gripper will act on.

    Args:
        chosen: Episodes with the readers of their batches, in order.
        declared: Id -> embodiment, as declared today.
        findings: What validation found of them.
        widths: See `anchor_labels`; what training masks is not drawn.
    """
    said: dict[tuple[str, int], list[Finding]] = {}
    for finding in findings:
        if finding.episode is not None and finding.severity != "info":
            said.setdefault((finding.batch, finding.episode), []).append(finding)
    figures = []
    with progress("draw", len(chosen), unit="episode") as advance:
        for reader, record in chosen:
            found = said.get((reader.folder.name, record.number), [])
            figures.append(_figure(reader, record, judged_by(reader.embodiment, declared), found, widths))
            advance(1)
    odd = sum((reader.folder.name, record.number) in said for reader, record in chosen)
    keys = "".join(f"<p class=key>{key}</p>" for key in dict.fromkeys(key_of(r.embodiment) for r, _ in chosen))
    body = f"<p>{len(chosen)} episodes, {odd} with a finding (framed).</p>{keys}"
    return page("All episodes", f"{body}<div class=sheet>{''.join(figures)}</div>", _STYLE)


def _figure(
    reader: DatasetReader,
    record: EpisodeRecord,
    embodiment: Embodiment,
    found: list[Finding],
    widths: tuple[float, float],
) -> str:
    name = f"{reader.folder.name[:12]}/{record.number}"
    words = "".join(f"<br>{html.escape(f'{f.severity}: {f.rule}')}" for f in found[:3])
    try:
        pictures = "".join(_pictures(reader.episode(record), embodiment, widths))
    except BadInput as error:
        pictures = f"<p>{html.escape(str(error))}</p>"
    text = html.escape(record.instruction or "(empty)")
    caption = f"<figcaption>{name}<br>{text}{words}</figcaption>"
    return f"<figure{' class=odd' if found else ''}>{pictures}{caption}</figure>"


def _pictures(episode: Episode, embodiment: Embodiment, widths: tuple[float, float]) -> Iterator[str]:
    labels = anchor_labels(episode, embodiment, widths)
    for role, camera in episode.cameras.items():
        named = html.escape(role)
        picture = drawn(next(iter(camera.images)), labels[role], 0, _SIDE)
        yield f'<img alt="{named}" title="{named}" src="{picture}">'
