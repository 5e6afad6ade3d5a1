"""What is computed: the closed schema of `params.yaml`; `learning_params.py` has `prepare`, `model` and `train`."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer, model_validator

from posa_vla.learning_params import EncoderParams, ModelParams, PrepareParams, TrainParams
from posa_vla.schema import Closed
from posa_vla.target_params import Proof, StartFrom, TargetData, TargetName, as_ever
from posa_vla.validation_params import ValidateParams
from posa_vla.weak_keys import weakness

__all__ = [
    "CollectParams",
    "CriterionParams",
    "EncoderParams",
    "EvaluateParams",
    "GateParams",
    "ModelParams",
    "Params",
    "PerturbParams",
    "PrepareParams",
    "RetentionParams",
    "RobotParams",
    "TargetName",
    "TargetParams",
    "TrainParams",
    "Wording",
]


class PerturbParams(Closed):
    """How much scenes look otherwise than usual while episodes are collected; none by default."""

    # Standard deviation of the head camera's displacement along each axis (m), and of its turn about each (rad).
    camera_shift: float = Field(default=0, ge=0, le=0.2)
    camera_turn: float = Field(default=0, ge=0, le=0.2)
    # Largest change of the light, as a share of it.
    light: float = Field(default=0, ge=0, le=0.8)
    # Largest change of the table's grey (0 black to 1 white).
    table: float = Field(default=0, ge=0, le=0.6)


class CollectParams(Closed):
    """Demonstrations by the simulator's scripted expert, and a policy's rollouts that it relabels."""

    # Kept episodes, all successful; attempts that fail are thrown away.
    episodes: int = Field(default=600, gt=0)
    # First scene seed; evaluation seeds are drawn from another range (see seeds.py).
    seed: int = Field(default=0, ge=0)
    # Side of the square images of every simulated camera, in demonstrations as in rollouts, pixels.
    image_size: int = Field(default=64, ge=32, le=512)
    # Objects on the table, the target among them.
    objects: int = Field(default=3, ge=1, le=6)
    # Colours and shapes ("red ball") that no scene holds, so that nobody has seen them in training.
    held_out: list[str] = Field(default_factory=list)
    # Standard deviation of the noise on executed end-effector deltas, as a fraction of the largest delta: the labels
    # stay the expert's, so that recovery is in the data (DART, Laskey et al. 2017).
    noise: float = Field(default=0.3, ge=0, le=2)
    perturb: PerturbParams = PerturbParams()
    # Of a policy's rollouts (DAgger): chance that a step is the expert's, and actions executed of each chunk; where
    # nobody names these, they are as many as the policy was judged with.
    beta: float = Field(default=0.3, ge=0, le=1)
    execute: int = Field(default=4, ge=1)


# How an evaluation's instructions are worded.
Wording = Literal["trained", "paraphrased", "distracted", "contrasted"]


class EvaluateParams(Closed):
    """Rollouts in simulation that decide a candidate's fate.

    How a policy is executed (`execute` to `start_noise`, and `max_steps`) is part of the bundle that is made with these
    parameters. A bundle that is there keeps what it says, whatever the defaults here are by then.
    """

    episodes: int = Field(default=50, gt=0)
    objects: int = Field(default=3, ge=1, le=6)
    # How the scenes look otherwise than those of the demonstrations.
    perturb: PerturbParams = PerturbParams()
    # Colours and shapes that no scene holds, and those that the target is one of; any where empty.
    held_out: list[str] = Field(default_factory=list)
    targets: list[str] = Field(default_factory=list)
    # How instructions are worded: as in the demonstrations, in other words, with words around them that mean nothing,
    # or naming another object on the table that is not meant.
    wording: Wording = "trained"
    # Control steps after which an episode has failed.
    max_steps: int = Field(default=60, gt=0)
    # Actions executed of each chunk before the policy looks again.
    execute: int = Field(default=4, ge=1)
    # Actions that go on being executed while the policy thinks; the coming chunk begins with them.
    committed: int = Field(default=0, ge=0)
    # Temporal ensembling: looks at every step, weights exp(-ensemble * i) from the oldest chunk on; null for none.
    ensemble: float | None = Field(default=None, ge=0)
    # Integration steps of the policy's flow; null for the model's own.
    flow_steps: int | None = Field(default=None, ge=1)
    # Scale of the noise that the flow starts from; 1 is what the policy was trained with, 0 always starts alike.
    start_noise: float = Field(default=1.0, ge=0, le=1)
    # Rollouts kept as video.
    videos: int = Field(default=3, ge=0)

    @model_validator(mode="after")
    def _has_another(self) -> EvaluateParams:
        if self.wording == "contrasted" and self.objects == 1:
            raise ValueError("wording 'contrasted' names another object, and objects is 1: set objects to 2 or more")
        return self


def _absent(value: object) -> bool:
    return value is None


class CriterionParams(Closed):
    """One thing that a candidate must show, by the gate with an error rate over the target's life (docs/gate.md)."""

    # `floor`: its success is above `threshold`. `superior`: it is higher than the champion's on the same scenes.
    # `non-inferior`: it is less than `margin` below the champion's and below the reference's, which is a refresh.
    # The last two are not asked of a first policy.
    kind: Literal["floor", "superior", "non-inferior"]
    threshold: float | None = Field(default=None, gt=0, lt=1, exclude_if=_absent)
    # Success that may be lost: 0.1 is usual in simulation, 0.05 on a robot.
    margin: float | None = Field(default=None, gt=0, lt=1, exclude_if=_absent)

    @model_validator(mode="after")
    def _has_the_numbers_that_mean_something(self) -> CriterionParams:
        if (self.kind == "floor") != (self.threshold is not None):
            raise ValueError("a floor needs a threshold such as 0.25, and the other kinds have none")
        if (self.kind == "non-inferior") != (self.margin is not None):
            raise ValueError("`non-inferior` needs a margin such as 0.1, and the other kinds have none")
        return self


class GateParams(Closed):
    """What a candidate must show: by fixed tests of each night (promotion/gate.py), or by criteria (docs/gate.md)."""

    # What must be shown, all of it, such that of all promotions of the target at most 1 - confidence are false,
    # however many retrainings there are. Without it the floor and the margin below are tested, each night for itself.
    criteria: list[CriterionParams] | None = Field(default=None, min_length=1, exclude_if=_absent)
    # The one-sided lower confidence bound of success must exceed this; one below 0 asks for nothing (the tiny preset).
    success_floor: float = Field(default=0.25, ge=-1, lt=1)
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    # The lower bound of success(candidate) - success(champion) on paired scenes must exceed minus this.
    margin: float = Field(default=0.15, gt=0, lt=1)
    # Fewer valid episodes than this are no decision.
    min_episodes: int = Field(default=20, gt=0)

    @property
    def floor(self) -> float:
        """Success that a candidate must exceed; below 0 where any is enough."""
        criteria = self.criteria or []
        return next((c.threshold for c in criteria if c.threshold is not None), self.success_floor)

    @model_validator(mode="after")
    def _asks_one_way(self) -> GateParams:
        if self.criteria is None:
            return self
        older = sorted({"success_floor", "margin"} & self.model_fields_set)
        if older:
            raise ValueError(f"criteria and {' and '.join(older)}: a gate has one or the other, leave out one of them")
        kinds = [criterion.kind for criterion in self.criteria]
        if kinds.count("floor") != 1 or len(kinds) > 2:
            raise ValueError(
                "criteria need one floor, for the first policy has no champion, and at most one of `superior` and "
                "`non-inferior`: what is superior is non-inferior as well"
            )
        return self

    @model_serializer(mode="wrap")
    def _of_one_way(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        written: dict[str, Any] = write(self)
        unused = () if self.criteria is None else ("success_floor", "margin")
        return {name: value for name, value in written.items() if name not in unused}


class TargetParams(Closed):
    """A deployment target: embodiment and task, with its own model, channel, gate and approvals."""

    # A shipped embodiment's name or the path of an embodiment file.
    embodiment: str
    task: str
    # Approver signatures that a release needs; 0 is accepted for a simulated embodiment alone.
    approvals: int = Field(default=1, ge=0)
    # Who may approve: name -> Ed25519 public key in hex, as `posa approve --new-key FILE` prints it.
    approvers: dict[str, str] = Field(default_factory=dict)
    # Schema version of the release records that are published. 2 fixes the execution and the image size on the robots;
    # agents that know 1 alone refuse it, so they are upgraded first (docs/operations.md).
    record: Literal[1, 2] = 1
    # Where its episodes come from. It and `evidence` are left out of records where they say what was always so.
    data: TargetData = Field(default=TargetData(), exclude_if=as_ever)
    # What a training starts from: scratch, the target's champion (scratch before there is one), or first digits of a
    # bundle. The model and all that its numbers mean must be the same; train.normalisation says whose scales count.
    start_from: StartFrom = Field(default="scratch", exclude_if=as_ever)
    # What the gate asks for, all of it: success in simulation, errors on held-out episodes, trials on robots.
    evidence: list[Proof] = Field(default=["simulation"], min_length=1, exclude_if=as_ever)
    gate: GateParams = GateParams()

    @field_validator("evidence")
    @classmethod
    def _once(cls, value: list[Proof]) -> list[Proof]:
        if len(set(value)) != len(value):
            raise ValueError("names one kind twice: expected each once")
        return value

    @field_validator("approvers")
    @classmethod
    def _are_keys(cls, value: dict[str, str]) -> dict[str, str]:
        for name, key in value.items():
            if not re.fullmatch("[0-9a-f]{64}", key):
                raise ValueError(
                    f"{name}'s key is none: expected 64 hex digits, as `posa approve --new-key FILE` prints them"
                )
            weak = weakness(bytes.fromhex(key))
            if weak is not None:
                raise ValueError(f"{name}'s key is none, but {weak}: `posa approve --new-key FILE` makes one")
        return value


class RobotParams(Closed):
    """What the simulated robot does with a new release."""

    # Episodes it runs from the installed bundle before it reports.
    episodes: int = Field(default=5, gt=0)


class RetentionParams(Closed):
    """How long `posa gc` keeps what nothing needs any more (days since it was last written)."""

    # Checkpoints, metrics and policies of trainings whose bundle is not registered.
    trainings: int = Field(default=30, gt=0)
    # Videos, overlays and rows of evaluations; their evidence stays, and MLflow has its copy.
    evaluations: int = Field(default=30, gt=0)
    # Bundles that were never registered.
    bundles: int = Field(default=90, gt=0)
    # Prepared data that no registered model was trained on; it is made again from its episodes when it is wanted.
    prepared: int = Field(default=30, gt=0)
    # Objects of DVC that no data version names (of runs that were killed), and fetched datasets that were not taken in.
    objects: int = Field(default=7, gt=0)


class Params(Closed):
    """All of `params.yaml`."""

    schema_version: Literal[1] = 1
    # The target that a retraining is for.
    target: str
    targets: dict[TargetName, TargetParams]
    collect: CollectParams = CollectParams()
    validation: ValidateParams = ValidateParams()
    prepare: PrepareParams = PrepareParams()
    model: ModelParams = ModelParams()
    train: TrainParams = TrainParams()
    evaluate: EvaluateParams = EvaluateParams()
    robot: RobotParams = RobotParams()
    # In no key and no record of a run: what is kept for how long changes nothing that a run computes.
    retention: RetentionParams = Field(default=RetentionParams(), exclude=True)

    @field_validator("targets")
    @classmethod
    def _told_apart(cls, value: dict[str, TargetParams]) -> dict[str, TargetParams]:
        seen: dict[str, str] = {}
        for name in value:
            other = seen.setdefault(name.casefold(), name)
            if other != name:
                raise ValueError(f"{other!r} and {name!r} are one folder where capitals are not told apart")
        for name in value:
            if name.endswith("-ablation") and name.removesuffix("-ablation") in value:
                raise ValueError(f"{name!r} is the experiment of MLflow with the ablations of another target of these")
        return value

    @property
    def chosen(self) -> TargetParams:
        """The target named by `target`."""
        return self.targets[self.target]
