"""Whether a training has anchors, where its parameters leave that to its data (`model.gate: auto`)."""

from __future__ import annotations

from dataclasses import dataclass

from posa_vla.dataset.shards.manifest import PreparedManifest, untaught
from posa_vla.params import Params
from posa_vla.params_file import flat, overlaid

# The baseline without any anchors: no gate, no tokens, no anchor loss.
_WITHOUT = {
    "model": {"gate": "none", "anchor_tokens": False},
    "train": {"anchor_weight": 0.0, "anchor_only_steps": 0},
}


@dataclass(frozen=True)
class AnchorChoice:
    """What is settled of the anchors.

    Attributes:
        params: The parameters with what is settled in them; `model.gate` is never `auto`.
        words: What was settled and why; empty where the parameters left nothing open and the data teach the anchors.
    """

    params: Params
    words: str


def choose_anchors(params: Params, manifest: PreparedManifest) -> AnchorChoice:
    """Settles on a training's data what its parameters leave open; a gate that they name stays, whatever the data are.

    Where the data do not teach the anchors, the policy is the baseline without any. Tokens and anchor loss are then set
    aside too, and the words say so of each value that was another one.

    Args:
        params: As they were asked for, or settled already.
        manifest: Of the prepared data that the training has.
    """
    said, gate = untaught(manifest), params.model.gate
    if gate != "auto":
        words = f"{said}. model.gate={gate} was asked for, and stays" if said and gate != "none" else said
        return AnchorChoice(params, words)
    if not said:
        share = manifest.task_share
        counted = "nobody counted how many frames" if share is None else f"{share:.1%} of the frames"
        chosen = overlaid(params, {"model": {"gate": "max"}}, "model.gate=auto")
        return AnchorChoice(chosen, f"model.gate=auto is max: {counted} have a task label")
    chosen = overlaid(params, _WITHOUT, "model.gate=auto")
    asked, settled = flat(params.model_dump(mode="json")), flat(chosen.model_dump(mode="json"))
    aside = [f"{name} {value}, not {asked[name]}" for name, value in settled.items() if asked[name] != value]
    return AnchorChoice(chosen, f"{said}. model.gate=auto leaves them out: {'; '.join(aside)}")
