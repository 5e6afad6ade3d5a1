"""The record of an offline evaluation: how far a policy's actions are from those of held-out episodes.

It is no evidence of success: a policy is asked along the recorded states, and never has to live with what it did.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from posa_vla.files import read_json, sha256_json, write_json
from posa_vla.policy.execution import Execution
from posa_vla.schema import Closed, parse
from posa_vla.workspace import Workspace

NO_EVIDENCE = (
    "These errors are no evidence of success: the policy was asked along recorded episodes and moved nothing. They "
    "find policies that are broken; whether one does its task, only trials say."
)
# What is said of errors that may be those of a policy which has seen the answers.
MAY_KNOW = "it may have been trained on these episodes, or started from a policy that was"


def _no(value: bool) -> bool:
    return not value


def _none(value: int) -> bool:
    return value == 0


class ChannelError(Closed):
    """Mean absolute error of an action channel at each step of the horizon, in the channel's unit.

    Attributes:
        name: Of the channel; `unit` its unit.
        held: How the baseline holds the pose: the state's channel of that name, the action before, or zero.
        scale: What one unit of the mean error over channels is: how much the channel moves in the training data.
        policy: Of the policy; None where an action was no number.
        hold: Of holding the pose.
        nearest: Of the nearest demonstration: what followed the training frame whose state is nearest.
    """

    name: str
    unit: str
    held: Literal["state", "last action", "zero"]
    scale: float
    policy: list[float] | None
    hold: list[float]
    nearest: list[float]


class AnchorError(Closed):
    """Distance of an anchor's peak from its label, pixels of the square picture that the policy sees.

    Attributes:
        camera: Role.
        anchor: `task`, or the end effector.
        median: Over the looks that have the label; `ninety` is what nine of ten stay below.
        looks: How many have it.
    """

    camera: str
    anchor: str
    median: float
    ninety: float
    looks: int


class EventTiming(Closed):
    """When a gripper's commands open and close it, against the recording.

    Attributes:
        gripper: Action channel.
        recorded: Openings and closings in the recordings.
        found: How many of them the policy's actions have too, within a second.
        extra: How many its actions have beside them.
        seconds: Mean absolute difference of those that were found; None without any.
    """

    gripper: str
    recorded: int
    found: int
    extra: int
    seconds: float | None


class OfflineEpisode(Closed):
    """A held-out episode: mean error over channels and horizon, in scales of the channels.

    Attributes:
        number: Place among the held-out episodes.
        instruction: What the robot was asked first.
        frames: Its length.
        looks: How often the policy was asked.
        policy: Its error; None where an action was no number.
        hold: Of holding the pose.
        nearest: Of the nearest demonstration.
        outside: Actions of the policy beyond the limits.
    """

    number: int
    instruction: str
    frames: int
    looks: int
    policy: float | None
    hold: float
    nearest: float
    outside: int


class OfflineEvidence(Closed):
    """What a policy would have done at the recorded states of episodes that its data hold out.

    Attributes:
        policy_digest: Bundle digest.
        data: Data version whose held-out episodes these are.
        embodiment: Its id.
        fps: Control rate, Hz.
        horizon: Steps of a chunk.
        image_size: Side of the policy's pictures, pixels.
        execution: How the policy was run; it looks every `execute` steps.
        held_out: Episodes that are held out; `episodes` are those that were evaluated: at most 50, and none that lacks
            a camera.
        limits: Channels without declared limits, for which three times the recorded range counts.
        channels: Errors by action channel.
        anchors: Of the cameras that have labels.
        events: Of the grippers that are known.
        hardware: Machine description.
        versions: Package -> version.
        may_know: Whether it may have been trained on some of them all the same, or started from a policy that was.
    """

    schema_version: Literal[1] = 1
    policy_digest: str
    data: str
    embodiment: str
    fps: float
    horizon: int
    image_size: int
    execution: Execution
    held_out: int
    limits: list[str]
    episodes: list[OfflineEpisode]
    channels: list[ChannelError]
    anchors: list[AnchorError]
    events: list[EventTiming]
    hardware: str
    versions: dict[str, str]
    may_know: bool = Field(default=False, exclude_if=_no)

    @property
    def digest(self) -> str:
        """Hex SHA-256 of the record."""
        return sha256_json(self.model_dump(mode="json"))


class OfflineFigures(Closed):
    """An offline evaluation in a few numbers; errors are means over channels, horizon and looks, in channels' scales.

    Attributes:
        policy: None where nothing is held out, or an action was no number.
        hold: Of holding the pose; `nearest` of the nearest demonstration. None where nothing is held out.
        episodes: Evaluated held-out episodes.
        better: In how many of them the policy is better than both baselines.
        finite: Whether all actions were numbers.
        outside: Share of the actions beyond the limits.
        incomplete: Held-out episodes where none was evaluated: each lacks a camera.
        may_know: See `OfflineEvidence`.
    """

    policy: float | None
    hold: float | None
    nearest: float | None
    episodes: int = Field(ge=0)
    better: int
    finite: bool
    outside: float
    incomplete: int = Field(default=0, exclude_if=_none)
    may_know: bool = Field(default=False, exclude_if=_no)

    @staticmethod
    def of(evidence: OfflineEvidence) -> OfflineFigures:
        """The figures of a record."""
        rows = evidence.episodes
        looks = sum(row.looks for row in rows)

        def mean(values: list[float | None]) -> float | None:
            known = [value for value in values if value is not None]
            if not rows or len(known) != len(rows):
                return None
            return round(sum(value * row.looks for value, row in zip(known, rows, strict=True)) / looks, 6)

        return OfflineFigures(
            policy=mean([row.policy for row in rows]),
            hold=mean([row.hold for row in rows]),
            nearest=mean([row.nearest for row in rows]),
            episodes=len(rows),
            better=sum(row.policy is not None and row.policy < min(row.hold, row.nearest) for row in rows),
            finite=all(row.policy is not None for row in rows),
            outside=round(sum(row.outside for row in rows) / max(looks * evidence.horizon, 1), 6),
            incomplete=0 if rows else evidence.held_out,
            may_know=evidence.may_know,
        )

    @property
    def unknown(self) -> str:
        """Why nothing is known, and what to do, in words; empty where something is."""
        if self.episodes:
            return ""
        if self.incomplete:
            lack = (
                "the one held-out episode lacks"
                if self.incomplete == 1
                else (f"each of the {self.incomplete} held-out episodes lacks")
            )
            return f"{lack} a camera that the policy sees with: record some with all cameras"
        return "no episode is held out: record more, or raise prepare.validation_fraction"

    def in_words(self) -> str:
        """The errors in a line, with what they were measured on."""
        if not self.episodes:
            return f"unknown: {self.unknown}"
        on = "one episode" if self.episodes == 1 else f"{self.episodes} held-out episodes"
        if self.policy is None or self.hold is None or self.nearest is None:
            return f"actions that are no numbers, on {on}"
        return (
            f"error {self.policy:.3f} of the channels' scales on {on} (holding the pose {self.hold:.3f}, nearest "
            f"demonstration {self.nearest:.3f}); {f'{MAY_KNOW}; ' if self.may_know else ''}no evidence of success"
        )


def offline_path(workspace: Workspace, digest: str) -> Path:
    """Where a record lies, by its digest."""
    return workspace.evidence / "offline" / f"{digest}.json"


def write_offline(path: Path, evidence: OfflineEvidence) -> None:
    """Writes the record as JSON."""
    write_json(path, evidence.model_dump(mode="json"))


def read_offline(path: Path) -> OfflineEvidence:
    """Reads a record.

    Raises:
        BadInput: The file is missing, or is no such record.
    """
    return parse(OfflineEvidence, read_json(path), str(path))
