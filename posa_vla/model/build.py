"""A model from parameters and prepared data, or from the configuration that a bundle carries."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from posa_vla.dataset.shards.loader import PackedDataset
from posa_vla.dataset.shards.manifest import read_manifest
from posa_vla.episodes.action_space import action_space
from posa_vla.episodes.embodiment import Embodiment
from posa_vla.files import read_json
from posa_vla.model.action_units import chunk_statistics
from posa_vla.model.config import ModelConfig
from posa_vla.model.normalisation import Normalisation
from posa_vla.model.posa import GRIPPER_WORD, PosA
from posa_vla.model.text import TextEncoder
from posa_vla.model.tokenizer import HashedWords, Tokenizer, WordPieces, train_tokenizer
from posa_vla.model.vision import VisionEncoder
from posa_vla.params import Params
from posa_vla.schema import parse


@dataclass(frozen=True)
class Prepared:
    """What is known of prepared data: the manifest's content and the statistics."""

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
    manifest = read_manifest(data)
    return Prepared(
        embodiment=manifest.embodiment,
        cameras=manifest.cameras,
        image_size=manifest.image_size,
        captions=manifest.captions,
        normalisation=parse(Normalisation, read_json(data / "normalisation.json"), f"{data}/normalisation.json"),
    )


def normalisation_of(data: Path, prepared: Prepared, params: Params) -> Normalisation:
    """The statistics of what a policy predicts: those of the data, or over its chunks where `prepare.actions` says so.

    They are not part of prepared data, which know no horizon.

    Args:
        data: The prepared data.
        prepared: What is known of them.
        params: Their horizon, and what is predicted; as `settled` gave them.

    Raises:
        BadInput: `prepare.actions` does not fit the embodiment.
    """
    space = action_space(prepared.embodiment, params.prepare.actions)
    if space is None:
        return prepared.normalisation
    chunks = PackedDataset(data, "train", params.model.horizon)
    statistics = chunk_statistics(chunks, space, prepared.normalisation.action.floor)
    return prepared.normalisation.model_copy(update={"action": statistics})


def _scratch(config: ModelConfig, tokenizer: Tokenizer) -> PosA:
    params = config.params
    vision = VisionEncoder(config.image_size, params.grid, params.width, trunk=params.trunk)
    padding = -1 if isinstance(tokenizer, HashedWords) else 0
    return PosA(config, vision, TextEncoder(params.width, config.tokens, padding), tokenizer)


def _ready(model: PosA) -> PosA:
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # several times faster on a CPU
    return model


def build_model(config: ModelConfig, tokenizer: Tokenizer) -> PosA:
    """The network of a configuration with random weights, for a bundle's to be loaded into; no hub is asked."""
    if config.params.encoders.kind == "scratch":
        return _ready(_scratch(config, tokenizer))
    from posa_vla.model.pretrained import ClipDinoVision, ClipText, build_pretrained

    clip, dino = build_pretrained(config.pretrained)
    # A bundle's low-rank updates are folded into its weights.
    encoders = config.params.encoders.model_copy(update={"tuning": "frozen"})
    vision = ClipDinoVision(clip, dino, config.params.width, encoders)
    return _ready(PosA(config, vision, ClipText(clip, config.params.width, encoders), tokenizer))


def new_model(prepared: Prepared, params: Params, seed: int) -> PosA:
    """A freshly initialised model that fits the data; the same seed gives the same weights.

    Scratch encoders take their word pieces from the data's instructions; pretrained ones are loaded from where
    `params.model.encoders` says. A gate that `choose_anchors` has not settled is the larger channel's.

    Raises:
        BadInput: Image size and anchor grid do not fit, `prepare.actions` does not fit the embodiment, or the
            pretrained encoders cannot be loaded.
    """
    ends = list(prepared.embodiment.end_effectors)
    space = action_space(prepared.embodiment, params.prepare.actions)
    values = {
        "schema_version": 5 if space else 4 if ends else 3,
        "end_effectors": ends,
        "actions": space and space.model_dump(),
        "cameras": prepared.cameras,
        "image_size": prepared.image_size,
        "state_dim": len(prepared.embodiment.state),
        "action_dim": len(prepared.embodiment.action),
        "sigma_task": params.prepare.sigma_task,
        "sigma_end": params.prepare.sigma_end,
        "params": params.model.model_dump(),
    }
    if params.model.encoders.kind == "scratch":
        pieces = train_tokenizer([*prepared.captions, GRIPPER_WORD])
        config = parse(ModelConfig, {**values, "tokens": pieces.size}, "model")
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return _ready(_scratch(config, pieces))
    from posa_vla.model.pretrained import ClipDinoVision, ClipText, load_pretrained

    encoders, width = params.model.encoders, params.model.width
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        loaded = load_pretrained(encoders)
        config = parse(
            ModelConfig, {**values, "tokens": loaded.tokenizer.size, "pretrained": loaded.configs()}, "model"
        )
        vision = ClipDinoVision(loaded.clip, loaded.dino, width, encoders)
        return _ready(PosA(config, vision, ClipText(loaded.clip, width, encoders), loaded.tokenizer))


def trained_state(model: nn.Module) -> dict[str, Tensor]:
    """What training changes, by name, not copied: all but frozen parameters."""
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    return {name: value for name, value in model.state_dict().items() if name not in frozen}


def word_pieces(model: PosA) -> WordPieces | None:
    """The model's tokenizer where it is a file of the bundle."""
    return model.tokenizer if isinstance(model.tokenizer, WordPieces) else None
