"""Training state on disk, as safetensors and JSON; a checkpoint is there as a whole or not at all."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from posa_vla.errors import BadInput
from posa_vla.files import read_json, write_json
from posa_vla.model.build import trained_state


def save_state(
    folder: Path, step: int, objective: nn.Module, average: dict[str, Tensor], optimizer: torch.optim.Optimizer
) -> None:
    """Writes the state after `step` steps into an existing folder; frozen weights are not part of it."""
    tensors = {f"objective.{name}": value for name, value in trained_state(objective).items()}
    tensors |= {f"average.{name}": value for name, value in average.items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": value for name, value in state.items()}
    save_file(
        {name: value.detach().cpu().contiguous() for name, value in tensors.items()}, folder / "state.safetensors"
    )
    write_json(folder / "state.json", {"schema_version": 1, "step": step})


def load_state(folder: Path, objective: nn.Module, average: dict[str, Tensor], optimizer: torch.optim.Optimizer) -> int:
    """Restores a state in place and returns the number of steps done.

    Raises:
        BadInput: The checkpoint is incomplete or belongs to another architecture.
    """
    step = int(read_json(folder / "state.json")["step"])
    try:
        tensors = load_file(folder / "state.safetensors")
    except (OSError, SafetensorError) as error:
        raise BadInput(f"checkpoint {folder} cannot be read ({error}): delete it and train again") from None
    saved = {k.removeprefix("objective."): v for k, v in tensors.items() if k.startswith("objective.")}
    try:
        expected = trained_state(objective).keys()
        if saved.keys() != expected:
            raise RuntimeError(f"it differs in {sorted(saved.keys() ^ expected)[:3]}")
        objective.load_state_dict(saved, strict=False)
    except RuntimeError as error:
        raise BadInput(f"checkpoint {folder} is of another architecture: {error}") from None
    for name, value in average.items():
        value.copy_(tensors[f"average.{name}"])
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    moments: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("optimizer."):
            _, index, name = key.split(".")
            like = parameters[int(index)]
            # The fused kernel reads a moment in the order in which its parameter lies in memory.
            laid = torch.empty_like(like).copy_(value) if value.shape == like.shape else value
            moments.setdefault(int(index), {})[name] = laid
    optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
    return step
