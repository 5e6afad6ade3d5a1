"""How a policy learns: what of episodes it learns from, its architecture, its optimisation."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from posa_vla.schema import Closed


def _absent(value: object) -> bool:
    return value is None


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
    # Whether recordings at another rate are taken at the embodiment's control rate, which must divide theirs.
    resample: bool = False
    # Whether stretches at both ends of an episode, in which nothing moves, are left out.
    trim_idle: bool = False


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
    # The same in seconds, which count where they are given: as many actions as the control rate makes of them.
    horizon_seconds: float | None = Field(default=None, gt=0, le=60, exclude_if=_absent)
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

    def with_horizon(self, rate: float) -> ModelParams:
        """The same with a horizon in actions, at a control rate in Hz."""
        if self.horizon_seconds is None:
            return self
        return self.model_copy(update={"horizon": max(round(self.horizon_seconds * rate), 1), "horizon_seconds": None})

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
    # Of a training that starts from a policy: whether it keeps that policy's normalisation, which its weights know, or
    # makes it anew from its own data.
    normalisation: Literal["kept", "new"] = "kept"
    # Random shift of every image, pixels, the labels with it.
    shift: int = Field(default=3, ge=0)
    # Strength of the colour jitter, 0 for none.
    jitter: float = Field(default=0.1, ge=0, le=1)
    # Largest share of an image's side that is cut off before the rest is enlarged, the labels with it; 0 for none.
    crop: float = Field(default=0, ge=0, le=0.5)
    # Share of images into whose background, away from the anchors, another image is mixed; 0 for none.
    background: float = Field(default=0, ge=0, le=1)
    # Share of the samples in which the action head does not see a camera, drawn for each of several cameras: a policy
    # then does not hang on one of them. The anchors of such a camera are learnt all the same.
    camera_dropout: float = Field(default=0, ge=0, lt=1)
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
