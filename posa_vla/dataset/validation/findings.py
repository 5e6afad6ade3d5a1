"""What a validation can find, how bad it is, and what to do about it."""

from __future__ import annotations

from typing import Literal

from posa_vla.schema import Closed
from posa_vla.validation_params import RuleParams, ValidateParams

Severity = Literal["severe", "warning", "info"]

# (rule, frame, value): a finding before it knows its place.
Remark = tuple[str, int | None, str]

# Rules that no parameter softens: such an episode cannot be learnt from.
FIXED: dict[str, str] = {
    "batch-readable": "restore the batch with `posa data checkout`, or ingest its dataset again",
    "episode-readable": "restore the batch with `posa data checkout`, or ingest its dataset again",
    "content": "the stored bytes are not the ones that came in: restore them with `posa data checkout`",
    "table": "mend the episode's table in the dataset, and ingest it again",
    "images": "find the missing images or record the episode again; its other files are kept in quarantine",
    "finite": "a value is no number: find out which sensor failed, mend the table, and ingest it again",
}

# Remedies of the rules of `ValidateParams`, by rule.
REMEDIES: dict[str, str] = {
    "instruction": "say in words what the robot was asked to do (meta/tasks), and ingest it again",
    "timestamps": "frames must follow each other: mend the recorder's clock, or resample the recording",
    "fps-jitter": "kept; record with a steadier clock, actions are learnt as if frames came at the declared rate",
    "dropped-frames": "kept; look at the recorder's load where the gap is",
    "frozen-frames": "kept; check the camera's cable and driver, the policy sees a picture that is not true",
    "repeated-frames": "kept; the camera is slower than the table: record at the camera's rate",
    "limits": "widen the limit in the embodiment file if the robot really goes there",
    "limits-nonsense": "compare the unit and order of the channel with the embodiment file",
    "jumps": "kept; look for a lost packet or an encoder that wrapped around",
    "action-state": "check order and sign of the action's channels, and that actions are not shifted in time",
    "success": "kept, but not imitated: only successful episodes are prepared",
    "gripper-event": "kept; without an opening or closing there is no task anchor to learn from",
    "target-in-view": "kept; move a camera so that it sees where the gripper opens and closes",
    "black": "find out why the camera saw nothing; release the episode if it is still of use",
    "overexposed": "kept; lower the camera's exposure",
    "calibration-drift": "calibrate the camera again: its picture moves elsewhere than the projected gripper",
    "near-duplicate": "kept; was the same recording taken in twice, cut or named differently?",
    "scene-leakage": "take one of the two out of the store (`posa data remove BATCH`), or release it with a reason",
    "undeclared": "kept; declare it in the embodiment or calibration file, and ingest again, to make use of it",
    "superseded": "kept, the later one counts; `posa data remove` of the later one's batch makes this one count again",
    "metadata": "kept; the files were believed, mend the dataset's metadata",
}


class Finding(Closed):
    """One thing that was found.

    Attributes:
        rule: Id of the rule that found it.
        severity: A severe finding quarantines its episode, unless it was released.
        batch: Digest of the batch; of an episode that could not be read, its key in quarantine.
        episode: Number in the batch, or None for the whole batch; of an unreadable one, its number in its dataset.
        digest: The episode's digest; empty where there is none.
        frame: First frame concerned, or None.
        value: What was found, in words.
        remedy: What a person can do about the finding.
        released: Why somebody released the episode from this rule; empty where nobody did.
    """

    rule: str
    severity: Severity
    batch: str
    episode: int | None
    digest: str = ""
    frame: int | None
    value: str
    remedy: str
    released: str = ""


def rule_params(rules: ValidateParams, rule: str) -> RuleParams:
    """How a rule is applied."""
    if rule in FIXED:
        return RuleParams(severity="severe")
    found: RuleParams = getattr(rules, rule.replace("-", "_"))
    return found


def severity_of(rules: ValidateParams, rule: str) -> Severity | None:
    """How bad a finding of a rule is; None where the parameters turn the rule off."""
    severity = rule_params(rules, rule).severity
    return None if severity == "off" else severity


def remedy_of(rule: str) -> str:
    """What to do about a finding of a rule."""
    return FIXED.get(rule) or REMEDIES[rule]
