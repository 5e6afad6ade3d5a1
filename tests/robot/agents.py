"""Agents under test, and the policies that they load in the place of real ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from factories import make_embodiment
from releases import Channel
from robot.fakes import SIZE, FakePolicy

from posa_vla.model.config import ModelConfig
from posa_vla.params import ModelParams
from posa_vla.policy.execution import Execution
from posa_vla.release.channel import ChannelClient
from posa_vla.release.trust import Trust
from posa_vla.robot.agent.agent import Agent
from posa_vla.robot.agent.health import Load, RobotPolicy, tried
from posa_vla.robot.agent.trial import Check
from posa_vla.robot.control.pictures import Sizes

ROOT = Path(__file__).parents[3]


class BundlePolicy(FakePolicy):
    """A policy of a bundle, with scripted actions."""

    def __init__(self, digest: str, chunk: Sequence[Sequence[float]]) -> None:
        super().__init__(chunk)
        self.digest = digest
        self.made_for: Execution | None = None
        self.config = ModelConfig(
            cameras=["head", "wrist"],
            image_size=SIZE,
            state_dim=3,
            action_dim=2,
            sigma_task=0.1,
            sigma_end=0.1,
            params=ModelParams(grid=8),
        )


def load(folder: Path, digest: str) -> RobotPolicy:
    return BundlePolicy(digest, [[0.05, 1.0]] * 4)


def load_nan(folder: Path, digest: str) -> RobotPolicy:
    return BundlePolicy(digest, [[float("nan"), 1.0]] * 4)


def load_wild(folder: Path, digest: str) -> RobotPolicy:
    return BundlePolicy(digest, [[5.0, 1.0]] * 4)


def load_broken(folder: Path, digest: str) -> RobotPolicy:
    raise RuntimeError("cannot allocate")


def load_stranger(folder: Path, digest: str) -> RobotPolicy:
    policy = BundlePolicy(digest, [[0.05, 1.0]] * 4)
    policy.embodiment = make_embodiment(name="another_arm")
    return policy


def tried_here(load: Load) -> Check:
    """Tries what `load` makes in this process, which has no bounds."""

    def check(
        folder: Path, digest: str, robot: str, sizes: Sizes, execution: Execution | None, deadline: float
    ) -> str | None:
        return tried(load, folder, digest, robot, sizes, execution)

    return check


def load_instead(monkeypatch: pytest.MonkeyPatch, load: Load) -> None:
    """Every agent of this process tries and runs what `load` makes: bundles of `Channel` hold no PosA-VLA."""
    monkeypatch.setattr("posa_vla.model.posa_policy.load_policy", load)
    monkeypatch.setattr("posa_vla.robot.agent.agent.check_health", tried_here(load))


def make_agent(channel: Channel, *, trust: Trust | None = None, load: Load = load, **options: object) -> Agent:
    home = channel.folder / "robot"
    client = ChannelClient(channel.location, home / "tuf", channel.publisher.root_bytes())
    check = {"check": tried_here(load), **options}
    return Agent(home, client, trust or channel.trust, load=load, **check)  # type: ignore[arg-type]  # a test names them


def runs(channel: Channel) -> int | None:
    """The release that a robot which starts now would run."""
    agent = make_agent(channel)
    agent.recover()
    running = agent.slots.running
    if running is not None:
        assert agent.installed()[1].digest == running.bundle_digest
    return None if running is None else running.release
