"""The arrows of the loop: what each step hands to the next one. A record holds the one before it."""

from __future__ import annotations

from pydantic import Field

from posa_vla.dataset.versions.record import DataVersion
from posa_vla.evidence.offline import OfflineFigures
from posa_vla.evidence.summary import Summary
from posa_vla.promotion.gate import Verdict
from posa_vla.schema import Closed


def _absent(value: object) -> bool:
    return value is None


class Collected(Closed):
    """Demonstrations in the episode store.

    Attributes:
        batch: Digest of their batch.
    """

    batch: str


class Trained(Closed):
    """A finished training.

    Attributes:
        data: What was learned from.
        key: Key of the training, under which its files lie in the storage.
        seconds: Time that the training took.
        start: Bundle digest of the policy that it started from; None from random weights.
    """

    data: DataVersion
    key: str
    seconds: float
    start: str | None = None


class Candidate(Closed):
    """A policy that is sealed as a bundle.

    Attributes:
        source: The training that gave it; of an untrained policy the data that it was made for.
        digest: Digest of the bundle.
    """

    source: Trained | DataVersion
    digest: str

    @property
    def data(self) -> DataVersion:
        """The data version."""
        return self.source.data if isinstance(self.source, Trained) else self.source


class Replayed(Closed):
    """A candidate along held-out episodes.

    Attributes:
        evidence: Digest of the record.
        figures: Its errors.
        reports: Folder of its films in the storage.
    """

    evidence: str
    figures: OfflineFigures
    reports: str


class Evaluated(Closed):
    """A candidate's evidence, and the champion's on the same scenes.

    Attributes:
        candidate: The policy.
        offline: Its errors on held-out episodes; None where they were not looked at.
        evidence: Digest of its rollouts; None where it was not simulated, as all that follows.
        champion: Bundle digest of the champion that it was compared with; None for the first candidate.
        champion_evidence: Digest of the champion's rollouts; None for the first candidate.
        reference: Bundle digest of the policy that small losses are counted from, where the gate asks about it.
        reference_evidence: Digest of its rollouts, where it is neither the candidate nor the champion.
        summary: The candidate's figures.
        reports: Folder of its videos and overlays in the storage.
    """

    candidate: Candidate
    offline: Replayed | None = None
    evidence: str | None = None
    champion: str | None = None
    champion_evidence: str | None = None
    reference: str | None = Field(default=None, exclude_if=_absent)
    reference_evidence: str | None = Field(default=None, exclude_if=_absent)
    summary: Summary | None = None
    reports: str | None = None

    def in_words(self) -> str:
        """What was found, with what it was found on: success where it was measured."""
        if self.summary is not None:
            return self.summary.in_words()
        return "not measured" if self.offline is None else f"not measured; {self.offline.figures.in_words()}"


class Decided(Closed):
    """The gate's verdict on the evidence.

    Attributes:
        evaluated: The evidence.
        decision: Digest of the decision's record.
        verdict: See `posa_vla.promotion.gate.Decision`.
        reasons: The verdict in words, with the numbers.
    """

    evaluated: Evaluated
    decision: str
    verdict: Verdict
    reasons: list[str]


class Registered(Closed):
    """A candidate on record in MLflow.

    Attributes:
        decided: The verdict on it.
        model_version: Version of the target's registered model.
        run_id: The MLflow run.
        report: The retraining's page, relative to the workspace.
    """

    decided: Decided
    model_version: str
    run_id: str
    report: str


class Released(Closed):
    """A signed release record, on the channel or waiting for approvals.

    Attributes:
        registered: The candidate.
        release: Number of the release; None while approvals are missing.
        pending: What is missing, in words, or None.
        record: Digest of the signed record; None where there is none: the candidate was rolled back from.
        record_version: Schema version of the signed record; None where there is none.
        trust: Folder of what robots are handed, relative to the workspace; None where there is no record.
    """

    registered: Registered
    release: int | None
    pending: str | None
    record: str | None
    record_version: int | None
    trust: str | None


class RobotReport(Closed):
    """What the target's simulated robot runs, and how its episodes went.

    Attributes:
        release: Number of the installed release; None for nothing.
        episodes: Episodes that it ran now.
        successes: How many of them succeeded.
    """

    release: int | None
    episodes: int
    successes: int


class RobotRun(Closed):
    """A release on the target's simulated robot.

    Attributes:
        released: The release that the robot was offered.
        report: What the robot runs now, and how its episodes went.
    """

    released: Released
    report: RobotReport
