"""What the page of a retraining tells: closed models that sections only read."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from posa_vla.evidence.offline import OfflineEvidence
from posa_vla.evidence.record import EpisodeRow
from posa_vla.promotion.gate import Decision
from posa_vla.schema import Closed


class Measured(Closed):
    """How a policy did on the scenes of an evaluation.

    Attributes:
        solved: Episodes that succeeded.
        valid: Episodes with a valid outcome.
        planned: Episodes that the suite asked for.
        rate: Share of the valid ones that succeeded; None without any.
        low: Lower end of its exact two-sided 95 % interval; `high` the upper one.
        mean_steps: Control steps to success, over solved episodes.
        mean_path_length: Metres of the end effector's path, over solved episodes.
    """

    solved: int
    valid: int
    planned: int
    rate: float | None
    low: float
    high: float
    mean_steps: float | None
    mean_path_length: float | None


class Origin(Closed):
    """What a policy was made of.

    Attributes:
        model_version: Version of the target's registered model.
        run_id: Id of the policy's MLflow run.
        bundle: Digest of the policy's files.
        data_version: Content hash of the training data; `data_name` as `data-v3`, empty where it is not known.
        commit: Commit of the code, or `unknown`.
        dirty: Whether that code had changes that no commit holds.
    """

    model_version: str
    run_id: str
    bundle: str
    data_version: str
    data_name: str
    commit: str
    dirty: bool


class EpisodeShown(Closed):
    """One recorded rollout of the candidate.

    Attributes:
        row: How it went.
        champion_success: How the champion did on the same scene; None without one.
        video: MP4, or None.
        overlay: PNG of moments under the attention, or None.
    """

    row: EpisodeRow
    champion_success: bool | None
    video: bytes | None
    overlay: bytes | None


class DataChanges(Closed):
    """How the training data differ from the champion's: numbers of episodes, and how the statistics moved.

    Attributes:
        came: Batch -> episodes that the champion was not trained on.
        went: Episodes that only the champion had.
        shifts: Vector -> largest shift of a channel's mean, standard deviations of the champion's data.
        params: Parameter -> value then and now.
    """

    before: str
    after: str
    came: dict[str, int]
    went: int
    quarantined: int
    released: int
    shifts: dict[str, float]
    params: dict[str, tuple[str, str]]


class Changes(Closed):
    """What differs from the champion; what cannot be told is None, and `unknown` says why, by the name of the part.

    The part `champion` is all of it.

    Attributes:
        data: None too where both learned from the same version.
        parameters: Dotted name -> value then and now; an absent one is an empty text.
        commits: One line each, newest first.
    """

    data: DataChanges | None
    parameters: dict[str, tuple[str, str]] | None
    commits: list[str] | None
    unknown: dict[str, str]


class RetrainingFacts(Closed):
    """Everything that the page says.

    Attributes:
        embodiment: Id of the robot that the policy drives; `task` what it does there.
        preset: In words.
        decision: The gate's record.
        success: Of the candidate in simulation; None where the target asks for none.
        champion: None where there was none, or where the candidate is the champion itself (`itself`).
        compared: Scenes in which both runs have a valid outcome: solved by the candidate alone, by the champion alone.
        episodes: Recorded rollouts, worst first.
        hardware: That the evaluation ran on.
        offline: Errors on held-out episodes; None where they were not looked at.
        films: Number of a held-out episode -> its film, the worst first.
        anchors: What of the data teaches the anchors, in words; empty where that is not known.
        anchored: Whether the candidate has anchors; without, its pictures have no anchor channels.
    """

    schema_version: Literal[1] = 1
    target: str
    embodiment: str
    simulated: bool
    task: str
    preset: str
    decision: Decision
    candidate: Origin
    success: Measured | None
    champion: Origin | None
    champion_success: Measured | None
    itself: bool
    compared: tuple[int, int] | None
    episodes: list[EpisodeShown]
    recorded: int
    changes: Changes | None
    hardware: str
    anchors: str = ""
    anchored: bool = True
    offline: OfflineEvidence | None = None
    films: dict[int, bytes] = Field(default_factory=dict)
