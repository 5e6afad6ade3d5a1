"""The parameters that fit a dataset and a machine, each with its reason."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from posa_vla.params import EncoderParams
from posa_vla.params_file import shipped_presets
from posa_vla.schema import Closed
from posa_vla.yaml_file import read_yaml

# Sides of pictures that are offered, pixels, each with the anchor grid of the encoder that is trained from scratch.
_SIDES = {32: 8, 64: 16, 128: 16, 224: 28}
# The largest of them without a GPU.
_ON_PROCESSORS = 128
# A chunk's length (s): shorter ones stutter, and longer ones look into what nobody can foresee.
_CHUNK = 0.8
# Steps of the horizon come in such portions.
_PORTION = 8
# Epochs that a training should have, and optimiser steps at most.
_EPOCHS, _MOST_STEPS = 5, 20_000


class Choice(Closed):
    """One parameter that was chosen, by its dotted name, and why."""

    key: str
    value: Any
    reason: str


@dataclass(frozen=True)
class Seen:
    """What a dataset shows.

    Attributes:
        fps: Frames per second.
        pictures: Role -> (height, width), pixels.
        lengths: Frames of each episode, as far as they are known.
        episodes: How many there are.
        instructions: What was asked, each once.
    """

    fps: float
    pictures: dict[str, tuple[int, int]]
    lengths: list[int]
    episodes: int
    instructions: list[str]


@dataclass(frozen=True)
class Machine:
    """What trains: processors, and whether there is a GPU and CLIP and DINOv2 on its disk."""

    processors: int
    gpu: bool
    encoders: bool


def this_machine() -> Machine:
    """The machine that this process runs on."""
    import torch

    from posa_vla.machine import processors

    names = EncoderParams()
    wanted = ((names.clip, names.clip_revision), (names.dino, names.dino_revision))
    return Machine(processors(), torch.cuda.is_available(), all(_at_hand(name, at) for name, at in wanted))


def _at_hand(name: str, revision: str) -> bool:
    from huggingface_hub import try_to_load_from_cache

    return Path(name).is_dir() or isinstance(try_to_load_from_cache(name, "config.json", revision=revision), str)


def fitting(seen: Seen, machine: Machine) -> tuple[Literal["small", "paper"], list[Choice]]:
    """The preset, and what is chosen otherwise than it says, in the order of `params.yaml`.

    Args:
        seen: The dataset.
        machine: What trains.
    """
    preset: Literal["small", "paper"] = "paper" if machine.gpu and machine.encoders else "small"
    side, horizon = _side(seen, machine), _horizon(seen)
    choices = [side]
    if preset == "small":
        choices.append(
            Choice(key="model.grid", value=_SIDES[side.value], reason="anchor cells along each side of such a picture")
        )
    choices += [horizon, *_training(seen, machine, preset)]
    execute = max(horizon.value // 2, 1)
    choices.append(
        Choice(
            key="evaluate.execute",
            value=execute,
            reason=f"half of the chunk ({execute / seen.fps:.2g} s), then the policy looks again",
        )
    )
    return preset, choices


def why_preset(preset: str, machine: Machine) -> str:
    """The reason for the preset, in words."""
    if preset == "paper":
        return "a GPU, and CLIP and DINOv2 are on this machine"
    if machine.gpu:
        return (
            "CLIP and DINOv2 are not on this machine (model.encoders names folders): encoders are trained from scratch"
        )
    return f"{machine.processors} processors and no GPU: encoders are trained from scratch"


def _side(seen: Seen, machine: Machine) -> Choice:
    largest = max(max(size) for size in seen.pictures.values())
    most = max(_SIDES) if machine.gpu else _ON_PROCESSORS
    side = max(side for side in _SIDES if side <= max(min(largest, most), min(_SIDES)))
    sizes = ", ".join(f"{role} {width}x{height}" for role, (height, width) in seen.pictures.items())
    if side < largest and side == most and not machine.gpu:
        reason = f"the cameras see {sizes}; larger pictures are for a GPU"
    else:
        reason = f"the cameras see {sizes}: larger pictures would show nothing more"
    return Choice(key="prepare.image_size", value=side, reason=reason)


def _horizon(seen: Seen) -> Choice:
    steps = -(-round(_CHUNK * seen.fps) // _PORTION) * _PORTION
    reason = f"{steps / seen.fps:.2g} s at {seen.fps:g} Hz"
    if seen.lengths and steps > (half := int(statistics.median(seen.lengths)) // 2):
        steps = max(half, 1)
        reason = (
            f"{steps / seen.fps:.2g} s at {seen.fps:g} Hz: half of the median episode, of which most chunks stay inside"
        )
    return Choice(key="model.horizon", value=steps, reason=reason)


def _training(seen: Seen, machine: Machine, preset: str) -> list[Choice]:
    train = read_yaml(shipped_presets()[preset])["train"]
    choices = []
    if preset == "small":
        frames = sum(seen.lengths)
        batch, steps = 64, int(train["steps"])
        wanted = min(_EPOCHS * frames // batch, _MOST_STEPS)
        if wanted > steps:
            reason = f"{wanted * batch / frames:.2g} times through {frames} frames"
            choices.append(Choice(key="train.steps", value=wanted, reason=reason))
        elif frames:
            reason = f"as the preset has it: {steps * batch / frames:.2g} times through {frames} frames"
            choices.append(Choice(key="train.steps", value=steps, reason=reason))
    workers = 1 if machine.gpu or machine.processors < 2 else 2
    threads = 1 if machine.gpu else max(machine.processors // workers, 1)
    reason = "one GPU" if machine.gpu else f"{workers} workers of {threads} threads for {machine.processors} processors"
    choices.append(Choice(key="train.workers", value=workers, reason=reason))
    choices.append(Choice(key="train.threads", value=threads, reason=reason))
    return choices
