"""What is computed: the closed schema of `params.yaml`."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from posa_vla.schema import Closed
from posa_vla.validation_params import ValidateParams
from posa_vla.weak_keys import weakness


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


class PrepareParams(Closed):
    """From validated episodes to training shards."""

    # Side of the square images that the model sees, pixels; recorded ones are fitted into it, black beside them.
    image_size: int = Field(default=64, ge=16, le=512)
    # Share of episodes held out for the validation loss, by scene.
    validation_fraction: float = Field(default=0.05, ge=0, lt=1)
    # Anchor label widths as a fraction of the side of the square image that the model sees (PosA-VLA Eq. 3).
    sigma_task: float = Field(default=0.1, gt=0)
    sigma_end: float = Field(default=1 / 15, gt=0)
    # What a policy predicts: actions as they were recorded, or what they add to the state at the chunk's start, for
    # channels that the state has by the same name. The policy undoes it; grippers stay absolute.
    actions: Literal["absolute", "relative"] = "absolute"


class EncoderParams(Closed):
    """Where the visual and the language features come from."""

    # `scratch`: a convolutional network and word pieces, trained with the policy. `pretrained`: CLIP and DINOv2.
    kind: Literal["scratch", "pretrained"] = "scratch"
    # Local folders or names on a hub, with the commits that are taken there.
    clip: str = "openai/clip-vit-base-patch16"
    clip_revision: str = "57c216476eefef5ab752ec549e440a49ae4ae5f3"  # pragma: allowlist secret
    dino: str = "facebook/dinov2-base"
    dino_revision: str = "f9e44c814b77203eaa57a6bdbbd535f21ede1415"  # pragma: allowlist secret
    # Features that the action head sees: DINOv2's, or CLIP's own (the paper's variant for LIBERO).
    dense: Literal["dinov2", "clip"] = "dinov2"
    # What of pretrained encoders is trained: nothing, low-rank updates of the attention (LoRA), or all.
    tuning: Literal["frozen", "lora", "full"] = "frozen"
    lora_rank: int = Field(default=8, ge=1)


class ModelParams(Closed):
    """Architecture of PosA-VLA; stored inside every bundle."""

    encoders: EncoderParams = EncoderParams()
    # Anchor grid of the scratch encoder: patches along each side. At 64 px, 8 leaves Omega+ empty on a third of the
    # frames, 16 never does. A pretrained encoder has its own.
    grid: int = Field(default=16, ge=4)
    # Residual blocks of the scratch encoder: on the anchor grid itself, or on a grid half as fine whose result is added
    # to it, which costs less than half and sees further.
    trunk: Literal["flat", "pyramid"] = "pyramid"
    # Width of the attended visual features and of the text and pose embeddings.
    width: int = Field(default=64, ge=16)
    # Attention channels: both, or the task's alone (the paper's ablation "without end-effector attention").
    channels: Literal["both", "task"] = "both"
    # How the channels gate the action head's features (Eq. 12): by the larger one, by their sum, each in a stream of
    # tokens of its own, or not at all. `auto` is the larger one where the data teach the anchors; where fewer than 5 %
    # of the frames have a task label, a gate would open anywhere, and there are no anchors at all.
    gate: Literal["auto", "max", "sum", "streams", "none"] = "auto"
    # Whether each channel adds a token: its attended feature and the image position that it points at.
    anchor_tokens: bool = True
    # What of the (gated) features the action head sees: pooled patches, or the expected image position of each channel
    # (spatial softmax, Finn et al. 2016), which is a baseline.
    readout: Literal["patches", "spatial_softmax"] = "patches"
    # Gated cells pooled into a token, along each side.
    pool: int = Field(default=2, ge=1)
    # Flow-matching transformer.
    flow_layers: int = Field(default=3, ge=1)
    flow_width: int = Field(default=128, ge=16)
    flow_heads: int = Field(default=4, ge=1)
    # Actions in a chunk.
    horizon: int = Field(default=8, ge=1)
    # Integration at inference: steps, and Euler's method or Heun's (two evaluations a step).
    flow_steps: int = Field(default=2, ge=1)
    solver: Literal["euler", "heun"] = "euler"
    # Whether the pose encoder's embedding joins the text in the attention queries (see docs/architecture.md).
    pose_query: bool = True
    # Whether the contrastive loss (Eq. 10) has a learned bias, as SigLIP's has (Zhai et al. 2023).
    contrastive_bias: bool = True

    @model_validator(mode="before")
    @classmethod
    def _without_preset(cls, value: Any) -> Any:
        # Bundles and runs of before the encoders could be chosen name the only preset that there was.
        if isinstance(value, dict) and value.get("preset") == "small":
            return {name: item for name, item in value.items() if name != "preset"}
        return value

    @model_validator(mode="after")
    def _widths_divide(self) -> ModelParams:
        if self.flow_width % self.flow_heads:
            raise ValueError(f"flow_width {self.flow_width} must be a multiple of flow_heads {self.flow_heads}")
        if self.flow_width % 2:
            raise ValueError(f"flow_width {self.flow_width} must be even: half of it are sines of the flow time")
        if self.readout == "spatial_softmax" and self.anchor_tokens:
            raise ValueError(
                "readout spatial_softmax is a baseline without anchor tokens: expected anchor_tokens false"
            )
        if self.encoders.kind == "scratch" and self.width % 8:
            raise ValueError(f"width {self.width} must be a multiple of 8, the groups that are normalised together")
        return self


class TrainParams(Closed):
    """Optimisation (PosA-VLA, section Training, scaled to the preset)."""

    steps: int = Field(default=750, gt=0)
    # Steps on the anchor loss alone before the full loss.
    anchor_only_steps: int = Field(default=150, ge=0)
    # Samples of one optimiser step over all workers.
    batch: int = Field(default=64, gt=0)
    learning_rate: float = Field(default=2e-3, gt=0)
    warmup_steps: int = Field(default=100, ge=0)
    weight_decay: float = Field(default=1e-6, ge=0)
    ema: float = Field(default=0.995, ge=0, lt=1)
    # L = L_action + anchor_weight * L_anchor (Eq. 17); L_anchor = alpha L_focal + (1 - alpha) L_contrastive (Eq. 11).
    anchor_weight: float = Field(default=1.0, ge=0)
    anchor_alpha: float = Field(default=0.5, ge=0, le=1)
    # Weight of an auxiliary loss on the anchors' image positions, which nothing but the loss sees: a baseline.
    keypoint_weight: float = Field(default=0, ge=0)
    # Noise and flow time are drawn this often for each observation: where the encoders are most of the cost, more
    # draws lower the variance of the action loss for little more.
    flow_draws: int = Field(default=4, ge=1)
    # Random shift of every image, pixels, the labels with it.
    shift: int = Field(default=3, ge=0)
    # Strength of the colour jitter, 0 for none.
    jitter: float = Field(default=0.1, ge=0, le=1)
    # Largest share of an image's side that is cut off before the rest is enlarged, the labels with it; 0 for none.
    crop: float = Field(default=0, ge=0, le=0.5)
    # Share of images into whose background, away from the anchors, another image is mixed; 0 for none.
    background: float = Field(default=0, ge=0, le=1)
    seed: int = Field(default=0, ge=0)
    # Ray Train workers and CPU threads of each.
    workers: int = Field(default=2, ge=1)
    threads: int = Field(default=1, ge=1)
    # Steps between checkpoints: what a crash may cost.
    checkpoint_steps: int = Field(default=150, gt=0)
    # Arithmetic of forward and backward pass; weights stay float32. `auto` is bf16 where the processor has it.
    precision: Literal["auto", "bf16", "fp32"] = "auto"

    @property
    def processors(self) -> int:
        """Processors that a training takes from Ray."""
        return self.workers * self.threads


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


class GateParams(Closed):
    """What a candidate must show (promotion/gate.py)."""

    # The one-sided lower confidence bound of success must exceed this; one below 0 asks for nothing (the tiny preset).
    success_floor: float = Field(default=0.25, ge=-1, lt=1)
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    # The lower bound of success(candidate) - success(champion) on paired scenes must exceed minus this.
    margin: float = Field(default=0.15, gt=0, lt=1)
    # Fewer valid episodes than this are no decision.
    min_episodes: int = Field(default=20, gt=0)


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
    gate: GateParams = GateParams()

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


def _is_target_name(name: str) -> str:
    """A name that MLflow, TUF, S3 and folders take, and that stands for nothing else beside targets."""
    if not re.fullmatch("[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
        raise ValueError(
            "no name of a target, which names a model of MLflow, folders, and paths on the channel: expected letters "
            "a to z, digits, '.', '_' and '-', first a letter or digit, at most 100"
        )
    if name.casefold() in _NOT_TARGETS:
        raise ValueError(f"no name of a target: {_NOT_TARGETS[name.casefold()]} is named so")
    return name


# In small letters, as file systems that do not tell capitals apart see them.
_NOT_TARGETS = {"decisions": "the folder of decisions beside the targets'", "default": "MLflow's own experiment"}
TargetName = Annotated[str, AfterValidator(_is_target_name)]


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
