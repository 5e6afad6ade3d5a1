"""What has to be known to rebuild a model around its weights: `config.json` of a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from posa_vla.episodes.action_space import ActionSpace
from posa_vla.files import read_json
from posa_vla.params import ModelParams
from posa_vla.schema import Closed, parse

# What `params` of versions 1 and 2 did not name yet.
_BEFORE_VERSION_3 = {"trunk": "flat", "contrastive_bias": False, "readout": "patches", "flow_steps": 6}


def _empty(value: object) -> bool:
    return value == []


def _absent(value: object) -> bool:
    return value is None


class ModelConfig(Closed):
    """Architecture and interface of one trained PosA-VLA.

    A model whose actions are not the embodiment's own (`actions`) has version 5, another of several end effectors 4,
    and of one 3. Versions 1 and 2 are read too: all that their `params` do not name is as it was then. In version 1 the
    text is hashed word by word.

    Attributes:
        cameras: Roles, in the order of the model's camera axis.
        image_size: Pixels along each side of every camera's image.
        state_dim: Channels of the state.
        action_dim: Channels of the embodiment's action.
        sigma_task: Label width of the task anchor, fraction of the image's side.
        sigma_end: Label width of the end-effector anchor.
        end_effectors: Names of several end effectors, in the order of their channels (from version 4 on); empty where
            one is.
        actions: What the network predicts, where that is not the embodiment's action itself (version 5).
        params: Architecture.
        tokens: Size of the tokenizer's vocabulary (scratch encoders).
        pretrained: Architectures of pretrained encoders, `clip` and, unless CLIP serves for both, `dino`: their weights
            are in the bundle, and nothing is asked of a hub.
    """

    schema_version: Literal[1, 2, 3, 4, 5] = 3
    architecture: Literal["posa-vla"] = "posa-vla"
    cameras: list[str] = Field(min_length=1)
    image_size: int = Field(gt=0)
    state_dim: int = Field(gt=0)
    action_dim: int = Field(gt=0)
    sigma_task: float
    sigma_end: float
    end_effectors: list[str] = Field(default_factory=list, exclude_if=_empty)
    actions: ActionSpace | None = Field(default=None, exclude_if=_absent)
    params: ModelParams
    tokens: int = Field(default=2048, gt=0)
    pretrained: dict[str, dict[str, Any]] = Field(default_factory=dict)

    @property
    def channels(self) -> tuple[str, ...]:
        """Attention channels, in order."""
        return ("task", *(self.end_effectors or ["end"])) if self.params.channels == "both" else ("task",)

    @property
    def anchored(self) -> bool:
        """Whether the action head sees anything of the anchors; without, nothing need have taught their attention."""
        return self.params.gate != "none" or self.params.anchor_tokens

    @property
    def chunk_dim(self) -> int:
        """Channels of the network's actions."""
        return self.action_dim if self.actions is None else self.actions.width

    @model_validator(mode="before")
    @classmethod
    def _as_it_was(cls, value: Any) -> Any:
        if isinstance(value, dict) and value.get("schema_version") in (1, 2) and isinstance(value.get("params"), dict):
            return {**value, "params": {**_BEFORE_VERSION_3, **value["params"]}}
        return value

    @model_validator(mode="after")
    def _versions_in_order(self) -> ModelConfig:
        several = len(self.end_effectors) > 1
        if self.schema_version < 5 and (self.schema_version == 4) != several:
            raise ValueError(
                f"version {self.schema_version} with end_effectors {self.end_effectors}: expected the names of several "
                "in version 4, and none before"
            )
        if (self.schema_version == 5) != (self.actions is not None):
            raise ValueError(
                f"version {self.schema_version} {'without' if self.actions is None else 'with'} actions: expected them "
                "in version 5, and none before"
            )
        return self

    @model_validator(mode="after")
    def _actions_fit(self) -> ModelConfig:
        if self.actions is None:
            return self
        turned = [channel for rotation in self.actions.rotations for channel in rotation.channels]
        sources = [source for source in self.actions.relative_to if source is not None]
        if (
            len(self.actions.relative_to) != self.action_dim
            or not set(turned) <= set(range(self.action_dim))
            or len(set(turned)) != len(turned)
            or not set(sources) <= set(range(self.state_dim))
        ):
            raise ValueError(
                f"actions name channels {self.actions.model_dump(mode='json')}, expected places in {self.action_dim} "
                f"channels of the action and {self.state_dim} of the state, each once"
            )
        return self

    @model_validator(mode="after")
    def _grid_divides(self) -> ModelConfig:
        if self.params.encoders.kind == "pretrained":
            if "clip" not in self.pretrained:
                raise ValueError("pretrained encoders, and no architecture of CLIP: expected pretrained.clip")
            return self
        stride, rest = divmod(self.image_size, self.params.grid)
        if rest or stride < 2 or stride & (stride - 1):
            raise ValueError(
                f"image_size {self.image_size} over model.grid {self.params.grid} must be a power of two above 1, "
                f"for example model.grid={max(self.image_size // 4, 1)}"
            )
        if self.params.grid % self.params.pool:
            raise ValueError(f"model.grid {self.params.grid} must be a multiple of model.pool {self.params.pool}")
        return self


def read_config(folder: Path) -> ModelConfig:
    """Reads `config.json` of a policy's folder or bundle.

    Raises:
        BadInput: The file is missing, or does not fit the schema.
    """
    return parse(ModelConfig, read_json(folder / "config.json"), f"{folder}/config.json")
