"""Errors on held-out episodes: figures, channels, anchors, grippers, and the worst episodes as films."""

from __future__ import annotations

from collections.abc import Mapping

from posa_vla.evidence.offline import MAY_KNOW, NO_EVIDENCE, ChannelError, OfflineEvidence, OfflineFigures
from posa_vla.html_page import data_url, page
from posa_vla.pipeline.report.facts import RetrainingFacts
from posa_vla.pipeline.report.section import Section, table, text

_TITLE = "Held-out episodes"
_HELD = {"state": "where it is", "last action": "the action before", "zero": "no change"}


def offline(facts: RetrainingFacts) -> Section | None:
    """The section of a retraining's page; None where nothing was looked at."""
    if facts.offline is None:
        return None
    return Section(_TITLE, offline_body(facts.offline, facts.films))


def offline_page(evidence: OfflineEvidence, films: Mapping[int, bytes]) -> str:
    """A page of its own."""
    style = ".media{display:grid;gap:1rem}.media video{width:100%;max-width:60rem;background:#000}"
    return page(f"Policy {evidence.policy_digest[:12]} on held-out episodes", offline_body(evidence, films), style)


def offline_body(evidence: OfflineEvidence, films: Mapping[int, bytes]) -> str:
    """All of it as HTML.

    Args:
        evidence: The record.
        films: Number of an episode -> MP4, the worst first.
    """
    figures = OfflineFigures.of(evidence)
    said = f"<p><b>{text(NO_EVIDENCE)}</b></p><p>{text(_sentence(evidence, figures))}</p>"
    if not figures.episodes:
        return said
    parts = [said, _channels(evidence), _episodes(evidence)]
    if evidence.anchors:
        rows = [
            [text(a.camera), text(a.anchor), f"{a.median:.1f}", f"{a.ninety:.1f}", str(a.looks)]
            for a in evidence.anchors
        ]
        about = f"Distance of the attention's peak from its label, pixels of {evidence.image_size}."
        parts.append(f"<p>{about}</p>" + table(["camera", "anchor", "median", "nine of ten below", "looks"], rows))
    if evidence.events:
        rows = [
            [text(e.gripper), str(e.recorded), str(e.found), str(e.extra), _seconds(e.seconds)] for e in evidence.events
        ]
        heads = ["gripper", "events recorded", "of them asked for within 1 s", "asked for besides", "mean difference"]
        parts.append(table(heads, rows))
    shown = [
        f'<figure><video controls loop muted playsinline src="{data_url(film, "video/mp4")}"></video>'
        f"<figcaption>held-out episode {number}: what was done (dark) and what the policy asks for (blue), in the "
        "channels that are furthest apart</figcaption></figure>"
        for number, film in films.items()
    ]
    if shown:
        parts.append(f"<div class=media>{''.join(shown)}</div>")
    return "".join(parts)


def _sentence(evidence: OfflineEvidence, figures: OfflineFigures) -> str:
    if not figures.episodes:
        return f"Nothing is known: {figures.unknown}."
    on = "one episode" if figures.episodes == 1 else f"{figures.episodes} of {evidence.held_out} held-out episodes"
    seconds = evidence.horizon / evidence.fps
    start = f"On {on}, over a horizon of {evidence.horizon} steps ({seconds:.2g} s), "
    if figures.policy is None or figures.hold is None or figures.nearest is None:
        return start + "the policy asked for actions that are no numbers."
    beyond = f" {figures.outside:.1%} of its actions are beyond the limits." if figures.outside else ""
    knows = f" But {MAY_KNOW}: then these errors are smaller than those on new episodes." if figures.may_know else ""
    undeclared = ""
    if evidence.limits:
        undeclared = (
            f" {len(evidence.limits)} channels declare no limits: three times the recorded range counts for them."
        )
    return (
        f"{start}the policy's mean error is {figures.policy:.3f} of what the channels move, that of holding the pose "
        f"{figures.hold:.3f}, that of the nearest demonstration {figures.nearest:.3f}. It is better than both in "
        f"{figures.better} of {figures.episodes}.{beyond}{undeclared}{knows}"
    )


def _channels(evidence: OfflineEvidence) -> str:
    def mean(values: list[float] | None) -> str:
        return "none" if values is None else f"{sum(values) / len(values):.4g}"

    def last(channel: ChannelError) -> str:
        return "none" if channel.policy is None else f"{channel.policy[0]:.4g} → {channel.policy[-1]:.4g}"

    rows = [
        [text(c.name), text(c.unit), mean(c.policy), last(c), mean(c.hold), _HELD[c.held], mean(c.nearest)]
        for c in evidence.channels
    ]
    heads = ["channel", "unit", "error", "first to last step", "holding the pose", "held at", "nearest demonstration"]
    return "<p>Mean absolute errors over the horizon, in each channel's unit.</p>" + table(heads, rows)


def _episodes(evidence: OfflineEvidence) -> str:
    rows = [
        [
            str(row.number),
            text(row.instruction),
            str(row.frames),
            "no numbers" if row.policy is None else f"{row.policy:.3f}",
            f"{row.hold:.3f}",
            f"{row.nearest:.3f}",
        ]
        for row in evidence.episodes
    ]
    return table(["episode", "words", "frames", "error", "holding the pose", "nearest demonstration"], rows)


def _seconds(value: float | None) -> str:
    return "none" if value is None else f"{value:.2f} s"
