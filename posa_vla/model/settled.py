"""The parameters of a training with what they leave to its data settled."""

from __future__ import annotations

from posa_vla.dataset.shards.manifest import PreparedManifest
from posa_vla.model.anchor_choice import choose_anchors
from posa_vla.params import Params


def settled(params: Params, manifest: PreparedManifest) -> Params:
    """The parameters with a horizon in actions, and with the anchors' gate decided (`model.gate: auto`).

    Args:
        params: As they were asked for, or settled already.
        manifest: Of the prepared data that the training has.
    """
    model = params.model.with_horizon(manifest.embodiment.control_hz)
    return choose_anchors(params.model_copy(update={"model": model}), manifest).params
