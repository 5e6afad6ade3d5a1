"""Rules that look at one episode's numbers: times, limits, jumps, actions, gripper, what was never declared."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from posa_vla.dataset.labels import acting_grippers
from posa_vla.dataset.validation.findings import Remark
from posa_vla.episodes.embodiment import Channel, Embodiment
from posa_vla.episodes.episode import Episode
from posa_vla.geometry import project
from posa_vla.seeds import EVALUATION_SEEDS, TUNING_SEEDS
from posa_vla.validation_params import ValidateParams

# A step of a channel counts as a jump only if it is this many times the usual one, too.
_UNUSUAL = 20
# Standard deviation, as a share of a channel's largest, below which it says nothing about a correlation.
_QUIET = 0.05
# The usual time between frames is further from the declared one by this share: another rate, not a shaky clock.
_OTHER_RATE = 0.05
# Channels of the action that move the end-effector by this much along an axis of the base frame (m).
_DELTAS = {"delta_x": 0, "delta_y": 1, "delta_z": 2}


def episode_remarks(episode: Episode, embodiment: Embodiment, rules: ValidateParams) -> Iterator[Remark]:
    """What the rules say of an episode's numbers."""
    silent = [frame for frame, text in episode.asked() if not text.strip()]
    if silent and episode.prompts is not None:
        yield "instruction", silent[0], f"from frame {silent[0]} on nothing says what the robot was asked to do"
    elif silent:
        yield "instruction", None, "the instruction is empty"
    if not episode.success and not episode.scene.get("collected"):
        yield "success", None, "the task was not done"
    seed = episode.scene.get("seed")
    # Asked for anything but a number, a range looks through all it has.
    if episode.source == "sim" and isinstance(seed, int) and (seed in EVALUATION_SEEDS or seed in TUNING_SEEDS):
        purpose = "evaluated" if seed in EVALUATION_SEEDS else "tuned"
        yield "scene-leakage", None, f"scene seed {seed} is one that candidates are {purpose} on"
    yield from _times(episode, rules)
    for name, values, channels in (
        ("state", episode.state, embodiment.state),
        ("action", episode.action, embodiment.action),
    ):
        yield from _limits(name, values, channels, rules)
    yield from _jumps(episode.state, embodiment, rules)
    yield from _action_state(episode, embodiment, rules)
    events, acting = acting_grippers(episode, embodiment)
    if not len(events) and has_gripper(episode, embodiment):
        yield "gripper-event", None, "the gripper neither opens nor closes"
    yield from _target_in_view(episode, events, acting)


def has_gripper(episode: Episode, embodiment: Embodiment) -> bool:
    """Whether anything declares or measures a gripper."""
    named = any(channel.name == "gripper" and channel.low is not None for channel in embodiment.action)
    return bool(embodiment.gripper_rules) or named or episode.gripper is not None


def undeclared(episode: Episode, embodiment: Embodiment) -> list[str]:
    """What labels and checks have to do without, in words; the same for all episodes of a batch."""
    without = []
    if not has_gripper(episode, embodiment):
        without.append("no gripper is declared: task anchors are masked")
    if episode.end_effector is None:
        without.append("no end-effector pose: all anchors are masked")
    unplaced = [r for r, c in episode.cameras.items() if c.intrinsics is None or c.pose is None]
    blind = [role for role in unplaced if episode.cameras[role].end_effector_pixel is None]
    if len(blind) < len(unplaced):
        seen = ", ".join(role for role in unplaced if role not in blind)
        others = " and those of other hands" if embodiment.end_effectors else ""
        without.append(f"of {seen} only the end-effector's pixel is known: its task anchors{others} are masked")
    if blind:
        without.append(f"no calibration of {', '.join(blind)}: its anchors are masked")
    for what, channels in (("state", embodiment.state), ("action", embodiment.action)):
        unlimited = [channel.name for channel in channels if channel.low is None]
        if unlimited:
            without.append(f"{len(unlimited)} of {len(channels)} {what} channels have no limits: they are not checked")
    return without


def _times(episode: Episode, rules: ValidateParams) -> Iterator[Remark]:
    times = episode.timestamps
    if times is None or len(times) < 2:
        return
    period, steps = 1 / episode.fps, np.diff(times)
    if (steps <= 0).any():
        frame = int((steps <= 0).argmax()) + 1
        yield (
            "timestamps",
            frame,
            f"frame {frame} is at {times[frame]:.3f} s, the one before at {times[frame - 1]:.3f} s",
        )
        return
    if (longest := float(steps.max()) / period) > rules.dropped_frames.threshold:
        frame = int(steps.argmax()) + 1
        yield "dropped-frames", frame, f"{steps.max():.3f} s between two frames, about {round(longest) - 1} are missing"
    usual = steps[steps <= rules.dropped_frames.threshold * period]  # a gap is a gap, and no shaky clock
    if len(usual) and (jitter := float(usual.std()) / period) > rules.fps_jitter.threshold:
        yield "fps-jitter", None, f"the time between frames varies by {100 * jitter:.0f} % of {period:.4f} s"
    if abs(float(np.median(steps)) / period - 1) > _OTHER_RATE:
        yield "timestamps", None, f"frames come at {1 / np.median(steps):.2f} Hz, declared are {episode.fps:g}"


def _limits(name: str, values: NDArray[np.float32], channels: list[Channel], rules: ValidateParams) -> Iterator[Remark]:
    low, high = (np.array(bound) for bound in zip(*(channel.limits for channel in channels), strict=True))
    with np.errstate(invalid="ignore"):  # no limits: minus infinity over infinity
        excess = np.nan_to_num(np.maximum(low - values, values - high) / (high - low), nan=0.0)
    for column in np.flatnonzero(excess.max(axis=0) > rules.limits.threshold):
        frame = int(excess[:, column].argmax())
        channel = channels[column]
        rule = "limits-nonsense" if excess[frame, column] > rules.limits_nonsense.threshold else "limits"
        yield (
            rule,
            frame,
            f"{name} {channel.name} is {values[frame, column]:.4g} {channel.unit}, "
            f"limits {low[column]:g} to {high[column]:g}",
        )


def _jumps(state: NDArray[np.float32], embodiment: Embodiment, rules: ValidateParams) -> Iterator[Remark]:
    if len(state) < 8:
        return
    steps, span = np.abs(np.diff(state, axis=0)), np.ptp(state, axis=0)
    grippers = {rule.channel for rule in embodiment.gripper_rules}
    for column, channel in enumerate(embodiment.state):
        gripper = "gripper" in channel.name or channel.name in grippers
        declared = channel.limits[1] - channel.limits[0]
        least = 0.02 * declared if np.isfinite(declared) else 0.0
        if gripper or span[column] <= least:
            continue
        frame = int(steps[:, column].argmax())
        step = float(steps[frame, column])
        usual = float(np.median(steps[:, column]))
        # A channel that hardly ever moves, and then does, is a switch.
        if step > rules.jumps.threshold * span[column] and step > _UNUSUAL * usual > 0:
            yield "jumps", frame + 1, f"state {channel.name} moves by {step:.4g} {channel.unit} within a frame"


def _action_state(episode: Episode, embodiment: Embodiment, rules: ValidateParams) -> Iterator[Remark]:
    """Compares what was asked for with what came: targets with the next state, deltas with the next movement."""
    if len(episode) < 16 or episode.scene.get("collected"):
        return
    states = {channel.name: column for column, channel in enumerate(embodiment.state)}
    # Apart by unit: a quiet channel is one that moves little beside others of its kind.
    kinds: dict[str, list[tuple[str, NDArray[np.floating], NDArray[np.floating]]]] = {}
    for column, channel in enumerate(embodiment.action):
        asked = episode.action[:-1, column]
        if channel.name in states:
            came = episode.state[1:, states[channel.name]]
            kinds.setdefault(channel.unit, []).append((channel.name, asked, came))
        elif channel.name in _DELTAS and episode.end_effector is not None and not embodiment.end_effectors:
            moved = np.diff(episode.end_effector[:, _DELTAS[channel.name]])
            kinds.setdefault("delta", []).append((channel.name, asked, moved))
    for pairs in kinds.values():
        spreads = [(float(asked.std()), float(came.std())) for _, asked, came in pairs]
        for (name, asked, came), (first, second) in zip(pairs, spreads, strict=True):
            if first <= _QUIET * max(a for a, _ in spreads) or second <= _QUIET * max(b for _, b in spreads):
                continue
            correlation = float(np.corrcoef(asked, came)[0, 1])
            if correlation < rules.action_state.threshold:
                yield "action-state", None, f"action {name} and what follows it correlate by {correlation:.2f}"


def _target_in_view(episode: Episode, events: NDArray[np.int64], acting: NDArray[np.int64]) -> Iterator[Remark]:
    calibrated = [c for c in episode.cameras.values() if c.intrinsics is not None and c.pose is not None]
    if episode.poses is None or not calibrated or not len(events):
        return
    seen = np.zeros(len(events), np.bool_)
    for camera in calibrated:
        assert camera.intrinsics is not None  # for the type checker: `calibrated` says so
        assert camera.pose is not None
        height, width = camera.images.shape[1:3]
        points = episode.poses[events, acting, :3]
        seen |= project(points, camera.intrinsics[events], camera.pose[events], width, height).visible
    for event in events[~seen]:
        yield "target-in-view", int(event), "no camera sees the end-effector where the gripper opens or closes"
