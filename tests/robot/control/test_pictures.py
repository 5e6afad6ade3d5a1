"""What a robot's cameras show, against what its release was judged on."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from factories import make_embodiment
from releases import TARGET, Channel, make_record_2, make_trust
from robot.agents import BundlePolicy, load, make_agent, tried_here
from robot.fakes import SIZE, FakePolicy, FakeRobot
from untrained import arm_params, untrained_bundle

from posa_vla.episodes.embodiment import load_embodiment
from posa_vla.errors import BadInput, Refused
from posa_vla.evaluation.local import evaluate
from posa_vla.evidence.suite import Suite
from posa_vla.evidence.summary import Summary
from posa_vla.files import write_json
from posa_vla.model.posa_policy import PosAPolicy, load_policy
from posa_vla.objects.directory import DirectoryObjects
from posa_vla.policy.execution import Execution, execution_of
from posa_vla.policy.policy import ActionChunk, Observation
from posa_vla.release.record import sign_record
from posa_vla.robot.agent.agent import Agent
from posa_vla.robot.agent.health import RobotPolicy, load_installed
from posa_vla.robot.agent.provision import provision
from posa_vla.robot.agent.terms import RunSettings, Terms
from posa_vla.robot.control.loop import run_episode
from posa_vla.robot.control.robot import Reading, Robot, RobotOptions
from posa_vla.robot.drivers.dry_run import DryRunRobot
from posa_vla.robot.settings import FILE, RobotSettings, read_settings, write_file
from posa_vla.robot.station.report import Reporter, RobotReport, report_path
from posa_vla.robot.station.service import open_service
from posa_vla.robot.station.session import Runner
from posa_vla.schema import parse

WAY = Execution(execute=4, max_steps=6)
ACTIONS = [[0.05, 1.0]] * 4


@pytest.fixture
def channel(tmp_path: Path) -> Channel:
    return Channel(tmp_path, str(tmp_path / "channel"))


def runner(agent: Agent, open_robot: Callable[[Terms], Robot], **settings: Any) -> Runner:
    return Runner(agent, open_robot, RunSettings(**settings), seed=2**32, say=lambda words: None)


def test_a_release_judged_at_224_px_runs_at_224_px_on_a_robot_whose_file_says_64(
    tmp_path: Path, channel: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluation = {"objects": 1, "max_steps": 4, "execute": 2, "videos": 0}
    params = arm_params(collect={"image_size": 224}, evaluate=evaluation)
    bundle, embodiment = untrained_bundle(tmp_path / "policy", params), load_embodiment("sim_arm6")
    seen: list[Observation] = []
    act = PosAPolicy.act

    def watched(policy: PosAPolicy, batch: Sequence[Observation], **options: Any) -> ActionChunk:
        seen.extend(batch)
        return act(policy, batch, **options)

    monkeypatch.setattr(PosAPolicy, "act", watched)
    monkeypatch.setattr("posa_vla.evaluation.local.TOGETHER", 1)  # as on a robot: the same looks in the same order
    # Tried in this process, where it is seen; how fast this machine is while other tests run is no question here.
    monkeypatch.setattr("posa_vla.robot.agent.agent.check_health", tried_here(load_installed))
    monkeypatch.setattr("posa_vla.robot.agent.health.PATIENCE", 100.0)
    policy = load_policy(bundle.folder, bundle.digest)
    evidence = evaluate(policy, Suite.of(params, [2**32, 2**32 + 1]), tmp_path / "evaluation")
    judged = seen.copy()
    declared = {"embodiment_id": embodiment.id, "embodiment_digest": embodiment.digest}
    size, way = evidence.suite["image_size"], execution_of(params.evaluate, policy.flow_steps)
    record = make_record_2(bundle.digest, execution=way, image_size=size, **declared)
    publisher = channel.publisher
    publisher.publish(TARGET, sign_record(record, publisher.record_signer), bundle)
    trust = make_trust(publisher.record_signer).model_copy(update=declared)
    provision(tmp_path / "robot", publisher.root_bytes(), trust)
    file = tmp_path / "robot" / FILE
    own = {"home": ".", "channel": channel.location, "target": TARGET, "embodiment": "sim_arm6", "image_size": 64}
    write_file(file, RobotSettings(**own, options={"task": "pick", "objects": 1}, episodes=2))
    seen.clear()
    with open_service(read_settings(file, {}), seed=2**32, retry=False, say=lambda words: None) as service:
        assert service.once(lambda report: None).status == "installed"
        running = service
    assert {image.shape for look in seen for image in look.images.values()} == {(224, 224, 3)}
    del seen[: -len(judged)]  # what the health check showed
    for look, then in zip(seen, judged, strict=True):
        np.testing.assert_array_equal(look.state, then.state)
    ran = running.session.episodes
    assert [(e.success, e.steps) for e in ran] == [(row.success, row.steps) for row in evidence.rows]
    figures = Summary.of(evidence)
    low, high = figures.ci_low, figures.ci_high
    assert low is not None
    assert high is not None
    assert low <= sum(bool(e.success) for e in ran) / len(ran) <= high


def test_an_update_with_another_image_size_opens_the_driver_anew(tmp_path: Path, channel: Channel) -> None:
    write_json(tmp_path / "arm.yaml", make_embodiment().model_dump(mode="json"))  # JSON is YAML
    clock, policies = [0.0], list[BundlePolicy]()

    def sleep(seconds: float) -> None:
        clock[0] += seconds

    def open_robot(terms: Terms) -> Robot:
        options = RobotOptions(str(tmp_path / "arm.yaml"), "pick", terms.image_size, 1, terms.execution.max_steps)
        return DryRunRobot(options, clock=lambda: clock[0], sleep=sleep)

    def remember(folder: Path, digest: str) -> RobotPolicy:
        policies.append(BundlePolicy(digest, ACTIONS))
        return policies[-1]

    running = runner(make_agent(channel, load=remember), open_robot, image_size=64)
    for release, size in ((1, 32), (2, 48)):
        channel.publish(release, schema_version=2, image_size=size, execution=WAY)
        assert running.update().status == "installed"
        tried = policies[-1].seen.copy()
        running.run(1, lambda report: None)
        looks = [*tried, *policies[-1].seen]
        assert looks != tried
        assert {image.shape for look in looks for image in look.images.values()} == {(size, size, 3)}
    channel.publish(3, execution=None, image_size=None, sequence=None, log_head=None)
    assert "version 1" in running.update().reason


def load_for_squares(folder: Path, digest: str) -> RobotPolicy:
    """A policy that knows no letterbox."""

    class Squares(BundlePolicy):
        def act(self, batch: Sequence[Observation], **options: Any) -> ActionChunk:
            for look in batch:
                for role, image in look.images.items():
                    if image.shape != (SIZE, SIZE, 3):
                        raise BadInput(f"camera {role!r} is {image.shape}, expected ({SIZE}, {SIZE}, 3)")
            return super().act(batch, **options)

    return Squares(digest, ACTIONS)


def test_a_policy_that_cannot_take_the_robot_s_pictures_is_never_committed(channel: Channel) -> None:
    channel.publish(1)
    make_agent(channel).update()
    channel.publish(2)
    agent = make_agent(channel, load=load_for_squares)
    report = agent.update(lambda record: {"head": (SIZE, SIZE), "wrist": (48, 64)})
    assert (report.status, report.release) == ("refused", 1)
    assert "camera 'wrist' is (48, 64, 3)" in report.reason
    assert make_agent(channel, load=load_for_squares).update(lambda record: {"head": (SIZE, SIZE)}).release == 2


def _camera(height: int, width: int) -> Callable[[int, Reading], Reading]:
    def disturb(index: int, reading: Reading) -> Reading:
        return replace(reading, images={**reading.images, "head": np.zeros((height, width, 3), np.uint8)})

    return disturb


def test_a_camera_that_shows_less_than_was_judged_is_refused_or_reported(channel: Channel, tmp_path: Path) -> None:
    robot = FakeRobot(end_after=6, disturb=_camera(24, 32))
    channel.publish(1)
    assert runner(make_agent(channel), lambda terms: robot).update().status == "installed", "nobody says what it saw"
    channel.publish(2, schema_version=2, image_size=48, execution=WAY)
    refused = runner(make_agent(channel), lambda terms: robot)
    report = refused.update()
    assert (report.status, report.release) == ("refused", 1)
    for words in ("camera 'head' gives 32 x 24", "camera 'wrist' gives 16 x 16", "judged on 48", "--allow-upscale"):
        assert words in report.reason
    allowed = runner(make_agent(channel), lambda terms: robot, allow_upscale=True)
    assert allowed.update().release == 2
    allowed.run(1, lambda report: None)
    assert allowed.session.episodes[0].upscaled == {"head": (24, 32), "wrist": (16, 16)}
    Reporter(allowed.session, "arm", TARGET, DirectoryObjects(tmp_path / "store"), print).leave()
    document = json.loads((tmp_path / "store" / report_path("arm")).read_bytes())
    assert document["upscaled"] == allowed.session.to_json()["upscaled"] == {"head": [24, 32], "wrist": [16, 16]}
    old = {name: value for name, value in document.items() if name != "upscaled"} | {"schema_version": 1}
    assert parse(RobotReport, old, "report").upscaled == {}
    fresh = FakeRobot(disturb=_camera(24, 32))
    with pytest.raises(Refused, match="judged on 48"):
        runner(make_agent(channel), lambda terms: fresh).run(1, lambda report: None)
    assert fresh.applied == []


def test_an_episode_ends_where_a_camera_begins_to_show_less() -> None:
    robot = FakeRobot(disturb=lambda index, reading: _camera(8, 8 if index else 40)(index, reading))
    policy = FakePolicy(ACTIONS)
    with pytest.raises(Refused, match="camera 'head' gives 8 x 8"):
        run_episode(robot, policy, seed=0, way=WAY, cameras=["head"], judged_size=40)
    assert len(robot.applied) == 4
    assert len(policy.seen) == 1
    assert robot.held == 1


def test_a_driver_that_sees_nothing_before_its_first_episode_is_asked_then(channel: Channel) -> None:
    class Blind(FakeRobot):
        started = False

        def start_episode(self, seed: int) -> None:
            self.started = True

        def observe(self) -> Reading:
            if not self.started:
                raise RuntimeError("no frame yet")
            return super().observe()

    robot = Blind(end_after=6)
    channel.publish(1, schema_version=2, image_size=48, execution=WAY)
    running = runner(make_agent(channel, load=load), lambda terms: robot)
    assert running.update().status == "installed"
    with pytest.raises(Refused, match="judged on 48"):
        running.run(1, lambda report: None)
    assert robot.applied == []
