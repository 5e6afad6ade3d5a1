"""What has to be known to rebuild a model around its weights: `config.json` of a bundle."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from posa_vla.params import ModelParams
from posa_vla.schema import Closed


class ModelConfig(Closed):
    """Architecture and interface of one trained PosA-VLA.

    Attributes:
        cameras: Roles, in the order of the model's camera axis.
        image_size: Pixels along each side of every camera's image.
        state_dim: Channels of the state.
        action_dim: Channels of the action.
        sigma_task: Label width of the task anchor, fraction of the image's side.
        sigma_end: Label width of the end-effector anchor.
        params: Architecture.
    """

    schema_version: Literal[1] = 1
    architecture: Literal["posa-vla"] = "posa-vla"
    cameras: list[str]
    image_size: int
    state_dim: int
    action_dim: int
    sigma_task: float
    sigma_end: float
    params: ModelParams

    @model_validator(mode="after")
    def _grid_divides(self) -> ModelConfig:
        stride, rest = divmod(self.image_size, self.params.grid)
        if rest or stride & (stride - 1):
            raise ValueError(
                f"image_size {self.image_size} over model.grid {self.params.grid} must be a power of two, "
                f"for example model.grid={max(self.image_size // 4, 1)}"
            )
        return self
