"""Parameters of a training that takes seconds."""

from __future__ import annotations

from posa_vla.params import ModelParams, Params, TargetParams, TrainParams


def quick_params(**train: object) -> Params:
    defaults = {
        "steps": 12,
        "anchor_only_steps": 3,
        "batch": 8,
        "warmup_steps": 2,
        "checkpoint_steps": 5,
        "workers": 1,
        "precision": "fp32",
    }
    return Params(
        target="t",
        targets={"t": TargetParams(embodiment="test_arm", task="pick")},
        model=ModelParams(grid=8, width=16, flow_layers=1, flow_width=16, flow_heads=2, flow_steps=2),
        train=TrainParams.model_validate(defaults | train),
    )
