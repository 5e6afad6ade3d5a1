"""The worst recorded episodes as videos, and where the policy looked in them."""

from __future__ import annotations

from posa_vla.html_page import data_url
from posa_vla.pipeline.report.facts import EpisodeShown, RetrainingFacts
from posa_vla.pipeline.report.section import Section, text


def _caption(shown: EpisodeShown) -> str:
    row = shown.row
    if row.return_code != "ok":
        outcome = f"no valid outcome ({row.return_code})"
    else:
        outcome = f"solved in {row.steps} steps" if row.success else f"failed after {row.steps} steps"
    champion = {True: "; the champion solved it", False: "; the champion failed", None: ""}[shown.champion_success]
    return f"scene {row.scene_seed}: {outcome}{champion}"


def videos(facts: RetrainingFacts) -> Section | None:
    """The worst recorded episodes; None where none was recorded."""
    figures = []
    for shown in facts.episodes:
        if shown.video is not None:
            film = f'<video controls loop muted playsinline src="{data_url(shown.video, "video/mp4")}"></video>'
            figures.append(f"<figure>{film}<figcaption>{text(_caption(shown))}</figcaption></figure>")
    if not figures:
        return None
    about = (
        f"{len(figures)} of {facts.recorded} recorded episodes, worst first; the MLflow run has all of them "
        "(videos/). Only the first scenes of an evaluation are recorded, so that worse ones may not have been."
    )
    return Section("Worst episodes", f"<p>{text(about)}</p><div class=media>{''.join(figures)}</div>")


def attention(facts: RetrainingFacts) -> Section | None:
    """Moments of these episodes under the attention; None for a policy that has none."""
    figures = [
        f'<figure><img alt="{text("attention, " + _caption(shown))}" src="{data_url(shown.overlay, "image/png")}">'
        f"<figcaption>{text(_caption(shown))}</figcaption></figure>"
        for shown in facts.episodes
        if shown.overlay is not None
    ]
    if not figures:
        return None
    anchors = (
        "the anchors (orange: what the task is about; cyan: the end effector, of several the first by name, then "
        "green, yellow and red), and "
    )
    about = (
        f"Moments from left to right. Below the pictures: {anchors if facts.anchored else ''}where the action head "
        "looks more than elsewhere (magenta)."
    )
    if not facts.anchored:
        about += " The policy has no anchors: model.gate is none, and there are no anchor tokens."
    return Section("Attention", f"<p>{about}</p><div class=wide>{''.join(figures)}</div>")
