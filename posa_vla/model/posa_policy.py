"""PosA-VLA as a `Policy`, and the files that the policy is loaded from."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from posa_vla.dataset.shards.manifest import read_manifest
from posa_vla.episodes.embodiment import Embodiment
from posa_vla.episodes.media.images import fit_image
from posa_vla.errors import BadInput
from posa_vla.files import read_json, write_json
from posa_vla.model.action_units import ActionUnits
from posa_vla.model.build import build_model, new_model, normalisation_of, read_prepared, word_pieces
from posa_vla.model.config import ModelConfig, read_config
from posa_vla.model.lora import folded
from posa_vla.model.normalisation import Normalisation, Standardise
from posa_vla.model.posa import PosA
from posa_vla.model.settled import settled
from posa_vla.model.tokenizer import TOKENIZER_FILE, HashedWords, read_tokenizer
from posa_vla.params import Params
from posa_vla.policy.execution import UNRECORDED, Execution
from posa_vla.policy.made_for import said_execution
from posa_vla.policy.policy import ActionChunk, Observation
from posa_vla.schema import parse

POLICY_FILES = ("model.safetensors", "config.json", "normalisation.json", "embodiment.json", TOKENIZER_FILE)
# Instructions whose text features are kept: a robot is told the same thing over and over.
_INSTRUCTIONS = 64


def write_policy_files(
    embodiment: Embodiment,
    normalisation: Normalisation,
    model: PosA,
    folder: Path,
    average: Mapping[str, Tensor] | None = None,
) -> None:
    """Writes the files of a policy into an existing folder.

    Args:
        embodiment: The robot that it drives.
        normalisation: What it was trained with.
        model: The trained model; it is not changed.
        folder: Existing folder that gets the files.
        average: Name -> averaged weight that is written instead of the model's.
    """
    weights = folded({**model.state_dict(), **(average or {})})
    tensors = {name: value.detach().cpu().contiguous() for name, value in weights.items()}
    save_file(tensors, folder / "model.safetensors")
    write_json(folder / "config.json", model.config.model_dump(mode="json"))
    write_json(folder / "normalisation.json", normalisation.model_dump(mode="json"))
    write_json(folder / "embodiment.json", embodiment.model_dump(mode="json"))
    pieces = word_pieces(model)
    if pieces is not None:
        pieces.save(folder)


def initial_policy_files(data: Path, params: Params, out: Path, seed: int) -> None:
    """Writes the files of an untrained policy into an existing folder; a gate must refuse such a policy."""
    prepared = read_prepared(data)
    params = settled(params, read_manifest(data))
    units = normalisation_of(data, prepared, params)
    write_policy_files(prepared.embodiment, units, new_model(prepared, params, seed), out)


def _told(value: object) -> str:
    return f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__


def _is_image(value: object) -> bool:
    return (
        isinstance(value, np.ndarray)
        and value.dtype == np.uint8
        and value.ndim == 3
        and value.shape[2] == 3
        and value.size > 0
    )


def _require_floats(name: str, value: object, shape: tuple[int, ...]) -> None:
    if not isinstance(value, np.ndarray) or value.shape != shape or value.dtype.kind != "f":
        raise BadInput(f"{name} is {_told(value)}, expected float32 {shape}")
    with np.errstate(over="ignore"):  # what float32 cannot hold is infinite in it
        if not np.isfinite(value.astype(np.float32)).all():
            raise BadInput(f"{name} is not finite: {value.tolist()}")


def _require_same_channels(
    config: ModelConfig, normalisation: Normalisation, embodiment: Embodiment, folder: Path
) -> None:
    for name, statistics, width, declared, expected in (
        ("state", normalisation.state, config.state_dim, embodiment.state, config.state_dim),
        ("action", normalisation.action, config.chunk_dim, embodiment.action, config.action_dim),
    ):
        for file, found, wanted in (
            ("normalisation.json", sorted({len(values) for values in statistics.model_dump().values()}), width),
            ("embodiment.json", [len(declared)], expected),
        ):
            if found != [wanted]:
                raise BadInput(
                    f"{folder}/{file} has {' or '.join(map(str, found))} {name} channels, config.json {wanted}: "
                    "expected the files of one policy"
                )


def _require_same_end_effectors(config: ModelConfig, embodiment: Embodiment, folder: Path) -> None:
    if tuple(config.end_effectors) != embodiment.end_effectors:
        expected, found = (", ".join(names) or "one" for names in (config.end_effectors, embodiment.end_effectors))
        raise BadInput(
            f"{folder}/embodiment.json has the end effectors {found}, config.json {expected}: expected the files of "
            "one policy"
        )


class PosAPolicy:
    """A trained PosA-VLA; see the Policy protocol for the contract of `act`.

    Attributes:
        embodiment: The robot that it drives.
        config: Architecture and interface.
        made_for: The execution that its bundle names; None of one that was made before bundles did.
    """

    def __init__(
        self,
        model: PosA,
        normalisation: Normalisation,
        embodiment: Embodiment,
        digest: str,
        made_for: Execution | None = None,
    ) -> None:
        self._model = model.eval()
        self._state = Standardise(normalisation.state, normalisation.state_clip)
        middle = [channel.middle for channel in embodiment.action]
        self._action = ActionUnits(normalisation.action, model.config.actions, middle)
        self._limits = embodiment.action_limits()
        self._frame = embodiment.action_frame
        self._digest = digest
        self._texts: dict[str, tuple[Tensor, Tensor]] = {}
        self.embodiment = embodiment
        self.config = model.config
        self.made_for = made_for
        self._steps = self.flow_steps
        self._start_noise = (made_for or UNRECORDED).start_noise

    @property
    def digest(self) -> str:
        """Bundle digest."""
        return self._digest

    @property
    def horizon(self) -> int:
        """Actions in a chunk."""
        return self.config.params.horizon

    @property
    def flow_steps(self) -> int:
        """Integration steps of the flow as the bundle says: in its execution, else in `config.json`."""
        return (self.made_for and self.made_for.flow_steps) or self.config.params.flow_steps

    @property
    def start_noise(self) -> float:
        """Scale of the noise that the flow starts from."""
        return self._start_noise

    @property
    def sampled_steps(self) -> int:
        """Integration steps that `act` takes: `flow_steps`, unless `with_flow` said otherwise."""
        return self._steps

    def with_flow(self, steps: int | None, start_noise: float) -> Self:
        """The same policy, with the same network in memory, sampled in another way; see `Policy.with_flow`."""
        other = copy.copy(self)
        other._steps, other._start_noise = steps or self.flow_steps, start_noise
        return other

    @property
    def network(self) -> tuple[PosA, Standardise, ActionUnits]:
        """The network, and the units of its state and of its actions."""
        return self._model, self._state, self._action

    def to(self, device: torch.device) -> PosAPolicy:
        """Moves the policy; observations and actions stay in the host's memory."""
        for module in (self._model, self._state, self._action):
            module.to(device)
        self._texts.clear()
        return self

    def _check(self, observation: Observation) -> None:
        if not isinstance(observation.instruction, str):
            raise BadInput(f"the instruction is {type(observation.instruction).__name__}, expected text")
        for role in self.config.cameras:
            image = observation.images.get(role)
            if image is None:
                raise BadInput(f"observation lacks camera {role!r}: got {sorted(observation.images)}")
            if not _is_image(image):
                raise BadInput(f"camera {role!r} is {_told(image)}, expected uint8 (H, W, 3), not empty")
        _require_floats("state", observation.state, (self.config.state_dim,))

    def _check_committed(self, committed: NDArray[np.float32], batch: int) -> None:
        length = committed.shape[1] if isinstance(committed, np.ndarray) and committed.ndim == 3 else 0
        if length > self.horizon:
            raise BadInput(f"{length} actions are committed, expected at most the chunk's {self.horizon}")
        _require_floats("committed", committed, (batch, length, self.config.action_dim))

    @torch.inference_mode()
    def act(
        self,
        batch: Sequence[Observation],
        *,
        committed: NDArray[np.float32] | None = None,
        seed: int | Sequence[int] = 0,
        attention: bool = False,
    ) -> ActionChunk:
        """Chooses the next actions; see `Policy.act`."""
        if not batch:
            raise BadInput("the batch is empty, expected at least one observation")
        for observation in batch:
            self._check(observation)
        if committed is not None:
            self._check_committed(committed, len(batch))
        device = self._model.theta.device
        images = {role: torch.from_numpy(self._fitted(batch, role)).to(device) for role in self.config.cameras}
        state = torch.from_numpy(np.stack([o.state for o in batch]).astype(np.float32)).to(device)
        texts = self._encoded_texts([o.instruction for o in batch])
        encoded = self._model.observe(images, self._state(state), *texts)
        noise = self._start_noise * self._noise(len(batch), seed).to(device)
        prefix = None
        if committed is not None:
            prefix = self._action(torch.from_numpy(committed.astype(np.float32)).to(device), state)
        sampled = self._model.sample(encoded.context, noise, prefix, self._steps)
        actions = np.clip(self._action.back(sampled, state).cpu().numpy(), *self._limits).astype(np.float32)
        if not attention:
            return ActionChunk(actions, self._frame)
        looked_at = self._model.looked_at(encoded.context, sampled, self._steps)
        anchors = self._by_camera(encoded.anchors.maps) if self.config.anchored else None
        return ActionChunk(actions, self._frame, anchors, self._by_camera(looked_at))

    def _by_camera(self, maps: Tensor) -> dict[str, NDArray[np.float32]]:
        return {role: maps[:, c].float().cpu().numpy() for c, role in enumerate(self.config.cameras)}

    def _noise(self, batch: int, seed: int | Sequence[int]) -> Tensor:
        shape = (self.horizon, self.config.chunk_dim)
        if isinstance(seed, int):
            return torch.randn((batch, *shape), generator=torch.Generator().manual_seed(seed))
        if len(seed) != batch:
            raise BadInput(f"{len(seed)} seeds for {batch} observations, expected one for all, or one for each")
        return torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(each)) for each in seed])

    def _fitted(self, batch: Sequence[Observation], role: str) -> NDArray[np.uint8]:
        return np.stack([fit_image(observation.images[role], self.config.image_size) for observation in batch])

    def _encoded_texts(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """f_x (B, d) and f_e (1, d); instructions that were met before are not encoded again."""
        new = sorted(set(texts) - self._texts.keys())
        if new:
            if len(self._texts) + len(new) > _INSTRUCTIONS:
                self._texts.clear()
                new = sorted(set(texts))
            encoded, gripper = self._model.texts(new)
            self._texts.update((text, (encoded[row], gripper)) for row, text in enumerate(new))
        return torch.stack([self._texts[text][0] for text in texts]), self._texts[texts[0]][1]


def load_policy(folder: Path, digest: str, *, threads: int | None = None) -> PosAPolicy:
    """Loads a policy from the files of a bundle, whose digest the caller has verified.

    Args:
        folder: With model.safetensors, config.json, normalisation.json, embodiment.json and, but for a `config.json` of
            version 1, tokenizer.json. Its flow is sampled as execution.json says, where there is one.
        digest: Bundle digest, reported as the policy's.
        threads: CPU threads of torch in this process; unchanged if None.

    Raises:
        BadInput: A file is missing, or the files do not belong to each other.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    config = read_config(folder)
    normalisation = parse(Normalisation, read_json(folder / "normalisation.json"), f"{folder}/normalisation.json")
    embodiment = parse(Embodiment, read_json(folder / "embodiment.json"), f"{folder}/embodiment.json")
    _require_same_channels(config, normalisation, embodiment, folder)
    _require_same_end_effectors(config, embodiment, folder)
    model = build_model(config, HashedWords() if config.schema_version == 1 else read_tokenizer(folder))
    try:
        model.load_state_dict(load_file(folder / "model.safetensors"))
    except (OSError, SafetensorError) as error:
        raise BadInput(f"{folder}/model.safetensors cannot be read: {error}") from None
    except RuntimeError as error:
        raise BadInput(f"{folder}/model.safetensors does not fit config.json: {error}") from None
    return PosAPolicy(model, normalisation, embodiment, digest, said_execution(folder))
