"""Errors on held-out episodes against what a test computes by hand, and that what is broken is seen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from end_effector_arms import pose_arm
from factories import make_embodiment, make_episode
from rigged_policies import RiggedPolicy

from posa_vla.code_digest import modules_of
from posa_vla.dataset.shards.pack import pack_episodes
from posa_vla.dataset.split import split_of
from posa_vla.episodes.embodiment import Channel, Embodiment
from posa_vla.episodes.episode import Episode
from posa_vla.evaluation.held_out import PackedEpisodes
from posa_vla.evaluation.offline import MOST_EPISODES, OfflineResult, evaluate_offline
from posa_vla.evaluation.offline_baselines import scales
from posa_vla.evaluation.offline_events import commanded_grippers
from posa_vla.evaluation.offline_films import film
from posa_vla.evaluation.offline_rotations import in_numbers_of
from posa_vla.evidence.offline import OfflineFigures
from posa_vla.params import PrepareParams
from posa_vla.pipeline.report.offline import offline_body
from posa_vla.pipeline.steps import offline
from posa_vla.policy.execution import Execution
from posa_vla.promotion.verdict import offline_criteria
from posa_vla.schema import parse

WAY = Execution(execute=2, flow_steps=None)
HORIZON, SIZE, SHARE = 3, 16, 0.4


def joint_embodiment() -> Embodiment:
    """Two joints that are commanded where they are, and a gripper that the state does not have."""
    value = make_embodiment(cameras=("head",)).model_dump(mode="json")
    joints = [{"name": "a", "unit": "deg"}, {"name": "b", "unit": "deg", "low": -50, "high": 50}]
    gripper = {"name": "gripper", "unit": "1", "low": 0, "high": 1}
    return parse(Embodiment, {**value, "state": joints, "action": [*joints, gripper]}, "test")


def joint_episode(seed: int, frames: int = 20) -> Episode:
    """Joints that turn 2 degrees a frame from a start of its own, commands one frame ahead; it closes at frame 10."""
    rng = np.random.default_rng(seed)
    episode = make_episode(rng, frames=frames, size=SIZE, cameras=("head",), close_at=10)
    turn = rng.uniform(-40, 0, 2) + 2 * np.arange(frames + 1)[:, None]
    action = np.concatenate([turn[1:], episode.action[:, 1:]], axis=1).astype(np.float32)
    return Episode(**{**vars(episode), "state": turn[:-1].astype(np.float32), "action": action})


def pack(folder: Path, episodes: list[Episode], embodiment: Embodiment) -> Path:
    pack_episodes(episodes, embodiment, PrepareParams(image_size=SIZE, validation_fraction=SHARE), folder)
    return folder


@pytest.fixture(scope="module")
def joints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack(tmp_path_factory.mktemp("joints") / "data", [joint_episode(n) for n in range(12)], joint_embodiment())


def run(policy: RiggedPolicy, data: Path, **way: Any) -> OfflineResult:
    return evaluate_offline(policy, data, WAY.model_copy(update=way), data_version="d" * 64)


def following(off: float = 0.0, closed: bool = False) -> RiggedPolicy:
    """Commands what was recorded, off by some degrees, and a gripper that stays as it is told."""

    def answer(seen: Any) -> Any:
        ahead = 2 * (np.arange(HORIZON)[:, None] + 1) + off
        return np.concatenate([seen.state + ahead, np.full((HORIZON, 1), 0.0 if closed else 1.0)], axis=1)

    return RiggedPolicy(answer, HORIZON)


def test_errors_are_in_the_channels_own_units_step_by_step(joints: Path) -> None:
    a, b, gripper = run(following(off=3), joints).evidence.channels
    assert (a.name, a.unit, a.held, gripper.held) == ("a", "deg", "state", "last action")
    assert a.policy == pytest.approx([3] * HORIZON, abs=1e-4)
    assert a.hold == b.hold == pytest.approx([2, 4, 6], abs=1e-4), "the joints turn by two degrees a frame"
    assert gripper.policy is not None
    assert gripper.policy[0] == pytest.approx(0.5), "the recordings close the gripper half the time"


def test_the_mean_error_is_in_scales_of_the_channels_and_compared_episode_by_episode(joints: Path) -> None:
    evidence = run(following(closed=True), joints).evidence
    figures = OfflineFigures.of(evidence)
    demonstrated = PackedEpisodes(joints, "train").action
    scale = scales(demonstrated, joint_embodiment().action)
    assert [channel.scale for channel in evidence.channels] == pytest.approx(scale.tolist(), rel=1e-5)
    held = [joint_episode(n) for n in range(12) if split_of(joint_episode(n), SHARE) == "validation"]
    assert figures.episodes == evidence.held_out == len(held) > 1
    # Only the gripper is off, by 1 before it closes; chunks at the end count the steps that were recorded.
    off = np.array([t + h < 10 for t in range(0, 20, 2) for h in range(HORIZON) if t + h < 20])
    assert figures.policy == pytest.approx(off.mean() / scale[2] / 3, rel=1e-4)
    assert figures.hold is not None
    assert (figures.finite, figures.outside) == (True, 0)


def test_the_nearest_demonstration_does_what_was_done_there(tmp_path: Path) -> None:
    # A held-out episode that was demonstrated before, to the bit: the scene is another one.
    source = [joint_episode(n) for n in range(12)]
    scenes = [{"seed": n} for n in range(40)]
    sides = {side: [] for side in ("train", "validation")}
    for scene in scenes:
        episode = Episode(**{**vars(source[0]), "scene": scene})
        sides[split_of(episode, SHARE)].append(scene)
    made = [Episode(**{**vars(source[n]), "scene": scene}) for n, scene in enumerate(sides["train"][:3])]
    made.append(Episode(**{**vars(source[1]), "scene": sides["validation"][0]}))
    evidence = run(following(), pack(tmp_path / "data", made, joint_embodiment())).evidence
    assert evidence.episodes[0].nearest == 0
    assert OfflineFigures.of(evidence).in_words().count("on one episode") == 1


def test_a_change_of_pose_is_held_at_zero_and_a_command_at_the_one_before(tmp_path: Path) -> None:
    made = [make_episode(np.random.default_rng(n), size=SIZE, frames=12) for n in range(10)]
    evidence = run(
        RiggedPolicy(lambda seen: np.zeros((HORIZON, 2)), HORIZON), pack(tmp_path / "data", made, make_embodiment())
    ).evidence
    assert [channel.held for channel in evidence.channels] == ["zero", "last action"]
    assert evidence.channels[0].policy == evidence.channels[0].hold


def test_events_are_found_late_or_not_at_all(joints: Path) -> None:
    def closing(late: int) -> RiggedPolicy:
        firsts = {episode.state[0].tobytes(): episode for episode in map(joint_episode, range(12))}

        def answer(seen: Any) -> Any:
            near = min(firsts.values(), key=lambda e: np.abs(e.state - seen.state).sum(axis=1).min())
            frame = int(np.abs(near.state - seen.state).sum(axis=1).argmin())
            close = np.arange(frame, frame + HORIZON)[:, None] >= 10 + late
            return np.concatenate([np.tile(seen.state, (HORIZON, 1)), np.where(close, 0.0, 1.0)], axis=1)

        return RiggedPolicy(answer, HORIZON)

    (late,) = run(closing(late=4), joints, execute=1).evidence.events
    assert (late.gripper, late.found, late.extra, late.seconds) == ("gripper", late.recorded, 0, pytest.approx(0.4))
    (never,) = run(following(), joints).evidence.events
    assert (never.found, never.extra, never.seconds) == (0, 0, None)
    assert never.recorded == late.recorded > 0


def test_anchors_are_compared_with_their_labels_in_pixels(tmp_path: Path) -> None:
    made = [make_episode(np.random.default_rng(n), size=SIZE, frames=12) for n in range(10)]
    data = pack(tmp_path / "data", made, make_embodiment())
    assert PackedEpisodes(data, "validation").labelled

    def corner(seen: Any) -> Any:
        maps = np.zeros((2, 4, 4), np.float32)
        maps[:, 0, 0] = 1
        return {"head": maps, "wrist": maps}

    policy = RiggedPolicy(lambda seen: np.zeros((HORIZON, 2)), HORIZON, corner)
    anchors = run(policy, data).evidence.anchors
    assert {(anchor.camera, anchor.anchor) for anchor in anchors} == {
        (camera, anchor) for camera in ("head", "wrist") for anchor in ("task", "end effector")
    }
    # The wrist's camera is above the end effector all along: in the middle of the picture. The first cell's middle is
    # at a pixel and a half and half a pixel more.
    wrist = next(a for a in anchors if (a.camera, a.anchor) == ("wrist", "end effector"))
    assert wrist.median == wrist.ninety == pytest.approx(np.hypot(8 - 2, 8 - 2), abs=1e-3)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_actions_that_are_no_numbers_are_no_error_but_a_finding(joints: Path, value: float) -> None:
    evidence = run(RiggedPolicy(lambda seen: np.full((HORIZON, 3), value), HORIZON), joints).evidence
    figures = OfflineFigures.of(evidence)
    assert (figures.policy, figures.finite, figures.better) == (None, False, 0)
    assert "no numbers" in figures.in_words()
    assert all(channel.policy is None for channel in evidence.channels)


def test_actions_beyond_declared_limits_or_far_from_anything_recorded_are_counted(joints: Path) -> None:
    evidence = run(RiggedPolicy(lambda seen: np.array([[0, 51, 0]] * HORIZON), HORIZON), joints).evidence
    assert OfflineFigures.of(evidence).outside == 1
    assert evidence.limits == ["a"]
    far = run(RiggedPolicy(lambda seen: np.array([[1000, 0, 0]] * HORIZON), HORIZON), joints).evidence
    assert OfflineFigures.of(far).outside == 1
    near = run(RiggedPolicy(lambda seen: np.array([[70, 0, 0]] * HORIZON), HORIZON), joints).evidence
    assert OfflineFigures.of(near).outside == 0


def test_without_a_held_out_episode_nothing_is_known(tmp_path: Path) -> None:
    made = [joint_episode(n) for n in range(12)]
    train = [episode for episode in made if split_of(episode, SHARE) == "train"]
    evidence = run(following(), pack(tmp_path / "data", train, joint_embodiment())).evidence
    assert (evidence.held_out, evidence.episodes, evidence.channels) == (0, [], [])
    assert OfflineFigures.of(evidence).in_words() == (
        "unknown: no episode is held out: record more, or raise prepare.validation_fraction"
    )


def test_of_many_held_out_episodes_some_are_taken_evenly(joints: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert MOST_EPISODES == 50
    monkeypatch.setattr("posa_vla.evaluation.offline.MOST_EPISODES", 2)
    evidence = run(following(), joints).evidence
    assert [episode.number for episode in evidence.episodes] == [0, evidence.held_out - 1]


def test_an_episode_that_lacks_a_camera_is_left_out_because_the_policy_could_not_be_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = [make_episode(np.random.default_rng(n), size=SIZE, frames=12) for n in range(12)]
    held = [n for n, episode in enumerate(made) if split_of(episode, SHARE) == "validation"]
    lacking = replace(made[held[0]], cameras={"head": made[held[0]].cameras["head"]})
    made[held[0]] = lacking
    policy = RiggedPolicy(lambda seen: np.zeros((HORIZON, 2)), HORIZON)
    evidence = run(policy, pack(tmp_path / "data", made, make_embodiment())).evidence
    assert (evidence.held_out, [episode.number for episode in evidence.episodes]) == (
        len(held),
        list(range(1, len(held))),
    )
    assert f"1 of {len(held)} held-out episodes lack a camera and are left out" in capsys.readouterr().err
    for number in held:
        made[number] = replace(made[number], cameras={"head": made[number].cameras["head"]})
    none = run(policy, pack(tmp_path / "none", made, make_embodiment())).evidence
    told = f"each of the {len(held)} held-out episodes lacks a camera that the policy sees with"
    assert told in OfflineFigures.of(none).in_words()
    assert told in offline_criteria(none)[1][0]
    assert told in offline_body(none, {})


def test_a_film_shows_every_frame_and_the_worst_channels_first(joints: Path, tmp_path: Path) -> None:
    result = run(following(off=30), joints)
    worst = result.replays[0]
    assert worst.episode.policy == max(row.policy or 0 for row in result.evidence.episodes)
    held_out, channels = PackedEpisodes(joints, "validation"), joint_embodiment().action
    made = film(worst, held_out, channels, np.array([1.0, 2.0, 1.0]))
    assert (made.number, made.channels[:2]) == (worst.episode.number, ["a", "b"])
    (tmp_path / "film.mp4").write_bytes(made.video)
    with av.open(str(tmp_path / "film.mp4")) as container:
        pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(pictures) == worst.episode.frames
    assert not np.array_equal(pictures[0], pictures[-1]), "the cursor moves"


def test_channels_that_hardly_move_do_not_outweigh_the_others() -> None:
    moves = np.random.default_rng(0).normal(0, 10, (500, 1))
    values = np.concatenate([moves, moves * 1e-6, np.zeros((500, 1))], axis=1).astype(np.float32)
    channels = [Channel(name="a", unit="deg"), Channel(name="b", unit="deg"), Channel(name="c", unit="1")]
    live, dead, alone = scales(values, channels)
    assert (dead, alone) == (pytest.approx(live / 20), 1.0)


def test_grippers_are_those_that_the_embodiment_declares() -> None:
    assert list(commanded_grippers(joint_embodiment())) == ["gripper"]
    value = joint_embodiment().model_dump(mode="json")
    named = {"vector": "action", "channel": "b", "closed": -10, "open": 10}
    assert list(commanded_grippers(parse(Embodiment, {**value, "gripper": named}, "test"))) == ["b"]
    # One that is known by the state alone is commanded where the action has a channel of its name.
    measured = {**named, "vector": "state"}
    assert list(commanded_grippers(parse(Embodiment, {**value, "gripper": measured}, "test"))) == ["b"]


def test_other_numbers_of_the_same_rotation_are_no_error() -> None:
    rng = np.random.default_rng(0)
    recorded = rng.normal(size=(4, 3, 8)).astype(np.float32)
    recorded[..., 3:7] /= np.linalg.norm(recorded[..., 3:7], axis=-1, keepdims=True)
    asked = recorded.copy()
    asked[..., 3:7] *= -1
    np.testing.assert_allclose(in_numbers_of(recorded, asked, pose_arm()), recorded, atol=1e-6)
    turned = np.tile(np.float32([0, 0, 0, 170, 10, -190, 1]), (4, 3, 1))
    asked = turned.copy()
    asked[..., [3, 5]] += [-360, 360]
    np.testing.assert_allclose(in_numbers_of(turned, asked, pose_arm("euler_xyz")), turned, atol=1e-4)


def test_the_offline_step_is_done_again_where_a_policy_acts_otherwise() -> None:
    modules = modules_of(*offline._CODE)
    assert {"posa_vla.model.action_units", "posa_vla.model.posa", "posa_vla.evaluation.offline_films"} <= set(modules)
