"""Which parameters fit which dataset and machine."""

from __future__ import annotations

from typing import Any

import pytest

from posa_vla.model.config import ModelConfig
from posa_vla.params import ModelParams
from posa_vla.pipeline.fitting import Machine, Seen, fitting, why_preset

CPU, GPU = Machine(2, gpu=False, encoders=False), Machine(16, gpu=True, encoders=True)
WEBCAM, TINY = {"head": (480, 640)}, {"head": (32, 48)}


def seen(**over: Any) -> Seen:
    value: dict[str, Any] = {
        "fps": 30.0,
        "pictures": WEBCAM,
        "lengths": [600] * 50,
        "episodes": 50,
        "instructions": ["pick"],
    }
    return Seen(**{**value, **over})


def chosen(dataset: Seen, machine: Machine = CPU) -> dict[str, Any]:
    return {choice.key: choice.value for choice in fitting(dataset, machine)[1]}


@pytest.mark.parametrize(
    ("pictures", "machine", "side"),
    [
        (WEBCAM, CPU, 128),
        (WEBCAM, GPU, 224),
        ({"head": (96, 96)}, CPU, 64),
        ({"head": (96, 96), "wrist": (480, 640)}, CPU, 128),
        (TINY, CPU, 32),
        ({"head": (8, 8)}, GPU, 32),
    ],
)
def test_pictures_are_as_large_as_cameras_and_machine_make_them_worth(
    pictures: dict[str, tuple[int, int]], machine: Machine, side: int
) -> None:
    assert chosen(seen(pictures=pictures), machine)["prepare.image_size"] == side


@pytest.mark.parametrize("pictures", [WEBCAM, TINY, {"head": (70, 90)}])
@pytest.mark.parametrize("machine", [CPU, Machine(4, gpu=True, encoders=False)])
def test_a_network_of_that_size_can_be_built(pictures: dict[str, tuple[int, int]], machine: Machine) -> None:
    values = chosen(seen(pictures=pictures), machine)
    params = ModelParams(grid=values["model.grid"], horizon=values["model.horizon"])
    sigmas = {"sigma_task": 0.1, "sigma_end": 0.1}
    ModelConfig(
        cameras=["head"], image_size=values["prepare.image_size"], state_dim=6, action_dim=6, params=params, **sigmas
    )


@pytest.mark.parametrize(("fps", "steps"), [(10, 8), (15, 16), (30, 24), (50, 40)])
def test_a_chunk_is_most_of_a_second_and_half_of_it_is_executed(fps: float, steps: int) -> None:
    values = chosen(seen(fps=float(fps)))
    assert (values["model.horizon"], values["evaluate.execute"]) == (steps, steps // 2)
    assert steps / fps >= 0.5


def test_a_chunk_is_no_longer_than_half_an_episode() -> None:
    assert chosen(seen(lengths=[20, 25, 30], episodes=3))["model.horizon"] == 12
    assert chosen(seen(lengths=[1], episodes=1))["model.horizon"] == 1


def test_steps_grow_with_the_data_up_to_a_bound() -> None:
    assert chosen(seen(lengths=[400]))["train.steps"] == 750
    assert chosen(seen(lengths=[600] * 50))["train.steps"] == 5 * 30_000 // 64
    assert chosen(seen(lengths=[600] * 5000))["train.steps"] == 20_000


def test_the_preset_follows_the_machine_and_says_why() -> None:
    assert fitting(seen(), CPU)[0] == fitting(seen(), Machine(8, gpu=True, encoders=False))[0] == "small"
    assert fitting(seen(), GPU)[0] == "paper"
    assert "no GPU" in why_preset("small", CPU)
    assert "CLIP and DINOv2 are not on this machine" in why_preset("small", Machine(8, gpu=True, encoders=False))
    assert all(choice.reason for choice in fitting(seen(), CPU)[1])
    assert chosen(seen(), Machine(1, gpu=False, encoders=False))["train.workers"] == 1
