"""PosA-VLA behind the Policy face, and the files that it is loaded from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from posa_vla.episodes.embodiment import Embodiment
from posa_vla.errors import BadInput
from posa_vla.files import read_json, write_bytes, write_json
from posa_vla.model.config import ModelConfig
from posa_vla.model.normalisation import Normalisation, Standardise
from posa_vla.model.posa import PosA
from posa_vla.params import Params
from posa_vla.policy.policy import ActionChunk, Observation
from posa_vla.schema import parse

POLICY_FILES = ("model.safetensors", "config.json", "normalisation.json", "embodiment.json")


@dataclass(frozen=True)
class Prepared:
    """What a prepared data folder says of itself."""

    embodiment: Embodiment
    cameras: list[str]
    image_size: int
    captions: list[str]
    normalisation: Normalisation


def read_prepared(data: Path) -> Prepared:
    """Reads manifest and statistics of prepared data.

    Raises:
        BadInput: The folder is not prepared data.
    """
    manifest = read_json(data / "manifest.json")
    try:
        return Prepared(
            embodiment=parse(Embodiment, manifest["embodiment"], f"{data}/manifest.json"),
            cameras=list(manifest["cameras"]),
            image_size=int(manifest["image_size"]),
            captions=list(manifest["captions"]),
            normalisation=parse(Normalisation, read_json(data / "normalisation.json"), f"{data}/normalisation.json"),
        )
    except (KeyError, TypeError) as error:
        raise BadInput(f"{data} is not prepared data: manifest.json lacks {error}; run `posa data prepare`") from None


def _built(config: ModelConfig) -> PosA:
    model = PosA(config)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # several times faster on a CPU
    return model


def new_model(prepared: Prepared, params: Params, seed: int) -> PosA:
    """A freshly initialised model that fits the data; the same seed gives the same weights.

    Raises:
        BadInput: Image size and anchor grid do not fit.
    """
    config = parse(
        ModelConfig,
        {
            "cameras": prepared.cameras,
            "image_size": prepared.image_size,
            "state_dim": len(prepared.embodiment.state),
            "action_dim": len(prepared.embodiment.action),
            "sigma_task": params.prepare.sigma_task,
            "sigma_end": params.prepare.sigma_end,
            "params": params.model.model_dump(),
        },
        "model",
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return _built(config)


def write_policy_files(data: Path, config: ModelConfig, weights: Mapping[str, Tensor], folder: Path) -> None:
    """Writes the four files of a policy into an existing folder."""
    prepared = read_prepared(data)
    tensors = {name: value.detach().cpu().contiguous() for name, value in weights.items()}
    save_file(tensors, folder / "model.safetensors")
    write_json(folder / "config.json", config.model_dump(mode="json"))
    write_bytes(folder / "normalisation.json", (data / "normalisation.json").read_bytes())
    write_json(folder / "embodiment.json", prepared.embodiment.model_dump(mode="json"))


def initial_policy_files(data: Path, params: Params, out: Path, seed: int) -> None:
    """Writes the files of an untrained policy into an existing folder: what a gate must refuse."""
    model = new_model(read_prepared(data), params, seed)
    write_policy_files(data, model.config, model.state_dict(), out)


class PosAPolicy:
    """A trained PosA-VLA; see the Policy protocol for the contract of `act`."""

    def __init__(self, model: PosA, normalisation: Normalisation, embodiment: Embodiment, digest: str) -> None:
        self._model = model.eval()
        self._state = Standardise(normalisation.state)
        self._action = Standardise(normalisation.action)
        self._limits = embodiment.action_limits()
        self._frame = embodiment.action_frame
        self._digest = digest
        self.embodiment = embodiment
        self.config = model.config

    @property
    def digest(self) -> str:
        """Bundle digest."""
        return self._digest

    @property
    def horizon(self) -> int:
        """Actions in a chunk."""
        return self.config.params.horizon

    def _check(self, observation: Observation) -> None:
        size = self.config.image_size
        for role in self.config.cameras:
            image = observation.images.get(role)
            if image is None:
                raise BadInput(f"observation lacks camera {role!r}: got {sorted(observation.images)}")
            if image.dtype != np.uint8 or image.shape != (size, size, 3):
                raise BadInput(f"camera {role!r} is {image.dtype} {image.shape}, expected uint8 ({size}, {size}, 3)")
        if observation.state.shape != (self.config.state_dim,):
            raise BadInput(f"state has shape {observation.state.shape}, expected ({self.config.state_dim},)")
        if not np.isfinite(observation.state).all():
            raise BadInput(f"state is not finite: {observation.state.tolist()}")

    @torch.inference_mode()
    def act(
        self,
        batch: Sequence[Observation],
        *,
        committed: NDArray[np.float32] | None = None,
        seed: int = 0,
        attention: bool = False,
    ) -> ActionChunk:
        """Chooses the next actions; see `Policy.act`."""
        if not batch:
            raise BadInput("the batch is empty, expected at least one observation")
        for observation in batch:
            self._check(observation)
        images = {r: torch.from_numpy(np.stack([o.images[r] for o in batch])) for r in self.config.cameras}
        state = self._state(torch.from_numpy(np.stack([o.state for o in batch]).astype(np.float32)))
        encoded = self._model.encode(images, state, [o.instruction for o in batch])
        shape = (len(batch), self.horizon, self.config.action_dim)
        noise = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
        prefix = None if committed is None else self._action(torch.from_numpy(committed))
        actions = self._action.back(self._model.sample(encoded.context, noise, prefix)).numpy()
        maps = None
        if attention:
            maps = {role: encoded.anchors.maps[:, c].numpy() for c, role in enumerate(self.config.cameras)}
        return ActionChunk(np.clip(actions, *self._limits).astype(np.float32), self._frame, maps)


def load_policy(folder: Path, digest: str, *, threads: int | None = None) -> PosAPolicy:
    """Loads a policy from the four files of a bundle, whose digest the caller has verified.

    Args:
        folder: With model.safetensors, config.json, normalisation.json, embodiment.json.
        digest: Bundle digest, reported as the policy's.
        threads: CPU threads of torch in this process; unchanged if None.

    Raises:
        BadInput: A file is missing, or the weights belong to another architecture.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    config = parse(ModelConfig, read_json(folder / "config.json"), f"{folder}/config.json")
    normalisation = parse(Normalisation, read_json(folder / "normalisation.json"), f"{folder}/normalisation.json")
    embodiment = parse(Embodiment, read_json(folder / "embodiment.json"), f"{folder}/embodiment.json")
    model = _built(config)
    try:
        model.load_state_dict(load_file(folder / "model.safetensors"))
    except (OSError, SafetensorError) as error:
        raise BadInput(f"{folder}/model.safetensors cannot be read: {error}") from None
    except RuntimeError as error:
        raise BadInput(f"{folder}/model.safetensors does not fit config.json: {error}") from None
    return PosAPolicy(model, normalisation, embodiment, digest)
