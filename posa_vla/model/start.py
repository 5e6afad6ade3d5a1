"""The policy that a training starts from: what of it must fit the data, and its weights in a model to train."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from posa_vla.dataset.shards.manifest import PreparedManifest
from posa_vla.episodes.action_space import action_space
from posa_vla.episodes.embodiment import Channel, Embodiment
from posa_vla.errors import BadInput
from posa_vla.files import read_json
from posa_vla.model.build import Prepared, build_model, new_model
from posa_vla.model.config import ModelConfig, read_config
from posa_vla.model.normalisation import Normalisation
from posa_vla.model.posa import PosA
from posa_vla.model.settled import settled
from posa_vla.model.tokenizer import HashedWords, read_tokenizer
from posa_vla.params import Params
from posa_vla.schema import parse

# What of `model` is how a policy is sampled, and may be another than what it was trained with.
_SAMPLING = frozenset({"flow_steps", "solver"})


def read_normalisation(folder: Path) -> Normalisation:
    """Reads `normalisation.json` of a policy's folder or bundle.

    Raises:
        BadInput: The file is missing, or does not fit the schema.
    """
    return parse(Normalisation, read_json(folder / "normalisation.json"), f"{folder}/normalisation.json")


def started_params(folder: Path, prepared: Prepared, manifest: PreparedManifest, params: Params) -> Params:
    """The parameters of a training that starts from a policy, with `model.gate: auto` decided by that policy.

    Args:
        folder: Of the policy.
        prepared: What is known of the data.
        manifest: Theirs.
        params: As they were asked for.

    Raises:
        BadInput: The policy does not fit the data or the parameters: it has other cameras, another action space, or is
            another model; the message names all that differs.
    """
    decided = settled(params, manifest)
    if params.model.gate == "auto":
        decided = _with_its_gate(read_config(folder), decided)
    _require_alike(folder, prepared.embodiment, prepared.cameras, prepared.image_size, decided)
    return decided


def require_startable(folder: Path, embodiment: Embodiment, params: Params) -> None:
    """Stops where no data of a robot could be trained on from a policy, whatever they are: as `started_params`.

    Args:
        folder: Of the policy.
        embodiment: The robot, with the cameras that its data will have.
        params: As they were asked for.

    Raises:
        BadInput: See `started_params`.
    """
    decided = params.model_copy(update={"model": params.model.with_horizon(embodiment.control_hz)})
    if params.model.gate == "auto":
        decided = _with_its_gate(read_config(folder), decided)
    _require_alike(folder, embodiment, list(embodiment.cameras), params.prepare.image_size, decided)


def _with_its_gate(config: ModelConfig, params: Params) -> Params:
    own = {"gate": config.params.gate, "anchor_tokens": config.params.anchor_tokens}
    return params.model_copy(update={"model": params.model.model_copy(update=own)})


def _require_alike(folder: Path, embodiment: Embodiment, cameras: list[str], image_size: int, params: Params) -> None:
    config = read_config(folder)
    its = parse(Embodiment, read_json(folder / "embodiment.json"), f"{folder}/embodiment.json")
    unlike = [
        *_other_robot(its, embodiment),
        *_other_interface(config, embodiment, cameras, image_size, params),
        *_other_model(config, params),
    ]
    if unlike:
        raise BadInput(
            f"start_from {folder}: this policy cannot be trained on with these data and parameters: "
            f"{'; '.join(unlike)}. Start from another one, or from scratch"
        )


def _channels(channels: list[Channel]) -> list[str]:
    return [f"{channel.name} ({channel.unit})" for channel in channels]


def _other_robot(its: Embodiment, ours: Embodiment) -> list[str]:
    parts: list[tuple[str, Any, Any]] = [
        ("the state", _channels(its.state), _channels(ours.state)),
        ("the action", _channels(its.action), _channels(ours.action)),
        ("the action's frame", its.action_frame, ours.action_frame),
        ("the control rate (Hz)", its.control_hz, ours.control_hz),
    ]
    return [_differs(*part) for part in parts if part[1] != part[2]]


def _other_interface(
    config: ModelConfig, embodiment: Embodiment, cameras: list[str], image_size: int, params: Params
) -> list[str]:
    ours = action_space(embodiment, params.prepare.actions)
    relative = ("absolute actions and no rotations", "actions relative to the state, or rotations")
    parts: list[tuple[str, Any, Any]] = [
        ("the cameras", config.cameras, cameras),
        ("the image size", config.image_size, image_size),
        ("the end effectors", config.end_effectors, list(embodiment.end_effectors)),
        ("prepare.sigma_task", config.sigma_task, params.prepare.sigma_task),
        ("prepare.sigma_end", config.sigma_end, params.prepare.sigma_end),
    ]
    if config.actions != ours:
        parts.append(("what it predicts", relative[config.actions is not None], relative[ours is not None]))
    return [_differs(*part) for part in parts if part[1] != part[2] or part[0] == "what it predicts"]


def _other_model(config: ModelConfig, params: Params) -> list[str]:
    its, ours = (p.model_dump(mode="json", exclude=set(_SAMPLING)) for p in (config.params, params.model))
    if its["encoders"]["kind"] == ours["encoders"]["kind"] == "pretrained":
        # Weights are in the bundle, whatever place they came from; how they are tuned is the training's.
        for side in (its, ours):
            side["encoders"] = {"dense": side["encoders"]["dense"]}
    else:
        for side in (its, ours):
            side["encoders"] = {"kind": side["encoders"]["kind"]}
    return [_differs(f"model.{name}", its[name], ours[name]) for name in its if its[name] != ours[name]]


def _differs(what: str, its: object, ours: object) -> str:
    def told(value: object) -> str:
        return ", ".join(map(str, value)) or "none" if isinstance(value, list) else str(value)

    return f"{what}: it has {told(its)}, here {told(ours)}"


def started_model(folder: Path, prepared: Prepared, params: Params) -> PosA:
    """A model to train that has a policy's weights and word pieces.

    Args:
        folder: Of the policy.
        prepared: What is known of the data.
        params: As `started_params` gave them.

    Raises:
        BadInput: A file is missing, or the weights do not fit.
    """
    config = read_config(folder)
    config = config.model_copy(update={"params": params.model})
    if config.params.encoders.kind == "scratch":
        model = build_model(config, HashedWords() if config.schema_version == 1 else read_tokenizer(folder))
    else:
        model = new_model(prepared, params, params.train.seed)
    try:
        weights = load_file(folder / "model.safetensors")
    except (OSError, SafetensorError) as error:
        raise BadInput(f"{folder}/model.safetensors cannot be read: {error}") from None
    low_rank = {name: value for name, value in model.state_dict().items() if _is_low_rank(name)}
    try:
        model.load_state_dict({**_as_tuned(model, weights), **low_rank})
    except RuntimeError as error:
        raise BadInput(f"{folder}/model.safetensors does not fit: {error}") from None
    return model


def _is_low_rank(name: str) -> bool:
    return ".parametrizations." in name and not name.endswith(".original")


def _as_tuned(model: nn.Module, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights of a bundle under the names that they have where a model adds low-rank updates, which begin at zero."""
    original = ".parametrizations.weight.original"
    tuned = {name.removesuffix(original) for name in model.state_dict() if name.endswith(original)}
    return {
        f"{name.removesuffix('.weight')}{original}" if name.removesuffix(".weight") in tuned else name: value
        for name, value in weights.items()
    }
