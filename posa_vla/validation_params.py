"""The rules that episodes are judged by: `validation:` of `params.yaml`."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from posa_vla.schema import Closed


class RuleParams(Closed):
    """How a rule of the validation is applied; `off` does not look. What `threshold` means stands at each rule."""

    severity: Literal["severe", "warning", "info", "off"]
    threshold: float = Field(default=0, ge=0)


def _rule(severity: Literal["severe", "warning", "info", "off"], threshold: float = 0) -> Any:
    return Field(default=RuleParams(severity=severity, threshold=threshold))


class ValidateParams(Closed):
    """The rules that can be set. A severe finding keeps an episode out of training until somebody releases it.

    What cannot be read at all (a missing table or video, a value that is no number, changed bytes) is always severe.
    """

    # No words say what the robot was asked to do.
    instruction: RuleParams = _rule("severe")
    # Times that do not increase, or do not begin at the frame that they number.
    timestamps: RuleParams = _rule("severe")
    # Standard deviation of the time between frames, as a share of the declared one.
    fps_jitter: RuleParams = _rule("warning", 0.2)
    # Longest time between two frames, in frames: what is beyond it was dropped.
    dropped_frames: RuleParams = _rule("warning", 1.8)
    # Longest still picture while the state changes (s).
    frozen_frames: RuleParams = _rule("warning", 1.0)
    # Share of frames that repeat the one before: the camera is slower than the table.
    repeated_frames: RuleParams = _rule("warning", 0.3)
    # Beyond a channel's limit by this share of its range: more than sensor noise and overshoot.
    limits: RuleParams = _rule("warning", 0.02)
    # The same, but another unit or another channel.
    limits_nonsense: RuleParams = _rule("severe", 0.5)
    # Change of a state channel within one frame, as a share of its range in the episode.
    jumps: RuleParams = _rule("warning", 0.5)
    # Least correlation of an action with the state that follows it.
    action_state: RuleParams = _rule("warning", 0.0)
    # The task was not done: kept, not imitated.
    success: RuleParams = _rule("info")
    # The gripper neither opens nor closes: no task anchor. Information where no gripper is declared.
    gripper_event: RuleParams = _rule("warning")
    # No camera sees where the gripper opens or closes.
    target_in_view: RuleParams = _rule("warning")
    # Share of frames that are black.
    black: RuleParams = _rule("severe", 0.2)
    # Share of frames that are mostly white.
    overexposed: RuleParams = _rule("warning", 0.2)
    # Motion in the picture around the projected gripper over motion elsewhere, at least this much.
    calibration_drift: RuleParams = _rule("warning", 1.5)
    # Root mean square difference of two trajectories as a share of each channel's range.
    near_duplicate: RuleParams = _rule("warning", 0.005)
    # Nearly the same episode, or the same scene, on both sides of the split, or a scene that evaluation uses.
    scene_leakage: RuleParams = _rule("severe")
    # Limits, calibration, pose or gripper that were never declared: what cannot be checked or labelled.
    undeclared: RuleParams = _rule("info")
    # A later ingestion of the same recording, with more or other things declared of it, counts in its place.
    superseded: RuleParams = _rule("info")
    # Metadata that contradicts the files, which win.
    metadata: RuleParams = _rule("warning")

    @model_validator(mode="before")
    @classmethod
    def _over_the_default(cls, value: Any) -> Any:
        """Half a rule changes that half: a new severity keeps the rule's threshold, a new threshold its severity."""
        if not isinstance(value, dict):
            return value
        rules = {name: field.default.model_dump() for name, field in cls.model_fields.items()}
        return {
            name: {**rules[name], **rule} if name in rules and isinstance(rule, dict) else rule
            for name, rule in value.items()
        }
