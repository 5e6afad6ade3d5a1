"""`params.yaml` as a file: read with the presets and single settings that overlay it, written, and spelled out flat."""

from __future__ import annotations

import importlib.resources
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from posa_vla.errors import BadInput, did_you_mean
from posa_vla.params import Params
from posa_vla.schema import parse
from posa_vla.yaml_file import parse_yaml, read_yaml, yaml_text


def shipped_presets() -> dict[str, Path]:
    """Name -> file of the presets that come with the package."""
    folder = Path(str(importlib.resources.files("posa_vla") / "presets"))
    return {p.stem: p for p in sorted(folder.glob("*.yaml"))}


def _overlay(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        merged[key] = _overlay(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def assignment(text: str, flag: str = "--set", example: str = "train.steps=100") -> dict[str, Any]:
    """`train.steps=10` as a nested dict; `flag` and `example` stand in the message.

    Raises:
        BadInput: It has another form, or the value is not YAML.
    """
    path, equals, value = text.partition("=")
    if not equals or not path:
        raise BadInput(f"{flag} {text!r}: expected KEY=VALUE, for example {example}")
    nested: Any = parse_yaml(value, f"{flag} {text!r}: the value")
    for key in reversed(path.split(".")):
        nested = {key: nested}
    assert isinstance(nested, dict)  # for the type checker: the path has at least one key
    return nested


def load_params(path: Path, preset: str | None = None, settings: list[str] | None = None) -> Params:
    """Reads parameters: the file, overlaid by a preset, overlaid by single settings.

    Args:
        path: `params.yaml`.
        preset: Name of a shipped preset.
        settings: `dotted.key=value` each.

    Raises:
        BadInput: A file is missing, a key is unknown, a value does not fit.
    """
    value = read_yaml(path)
    if not isinstance(value, dict):
        raise BadInput(f"{path}: expected a mapping of parameters, got {type(value).__name__}")
    parse(Params, value, str(path))
    if preset is not None:
        presets = shipped_presets()
        if preset not in presets:
            raise BadInput(f"unknown preset {preset!r}; {did_you_mean(preset, presets)}")
        overlay = read_yaml(presets[preset])
        # A preset of the shipped target says nothing of others.
        known = value.get("targets", {})
        overlay["targets"] = {name: over for name, over in overlay.get("targets", {}).items() if name in known}
        value = _overlay(value, overlay)
        parse(Params, value, f"preset {preset}")
    for setting in settings or []:
        value = _overlay(value, assignment(setting))
    params = parse(Params, value, "parameters" if settings else str(path))
    if params.target not in params.targets:
        raise BadInput(f"{path}: unknown target {params.target!r}; {did_you_mean(params.target, params.targets)}")
    return params


def overlaid(params: Params, over: dict[str, Any], where: str) -> Params:
    """Parameters with some of them replaced; `where` names the overlay in the message.

    Raises:
        BadInput: An unknown key, or a value that does not fit.
    """
    return parse(Params, _overlay(params.model_dump(mode="json"), over), where)


def write_params(path: Path, params: Params) -> None:
    """Writes resolved parameters, every key spelled out, as YAML."""
    from posa_vla.files import write_text

    write_text(path, yaml_text(params.model_dump(mode="json")))


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested parameters as dotted names with their values in JSON."""
    out: dict[str, str] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            out.update(flat(value, f"{prefix}{name}."))
        else:
            out[prefix + name] = value if isinstance(value, str) else json.dumps(value)
    return out
