"""Closed schemas: unknown keys are errors that name the closest known key."""

from __future__ import annotations

import sys
from typing import Any, TypeVar, get_args

import pydantic

from posa_vla.errors import BadInput, LaterVersion, did_you_mean
from posa_vla.json_reader import LARGEST, decode_json


class Closed(pydantic.BaseModel):
    """Base of every configuration and record: frozen, no unknown keys, no NaN."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, ser_json_inf_nan="null")


Model = TypeVar("Model", bound=pydantic.BaseModel)


def _known_keys(schema: type[pydantic.BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """The keys allowed beside the one at `location`; empty where the schema cannot say."""
    current: Any = schema
    for step in location[:-1]:
        if isinstance(current, type) and issubclass(current, pydantic.BaseModel) and step in current.model_fields:
            current = current.model_fields[str(step)].annotation
        else:
            arguments = [a for a in getattr(current, "__args__", ()) if isinstance(a, type) and a is not type(None)]
            current = arguments[-1] if arguments else None
            if isinstance(current, type) and issubclass(current, pydantic.BaseModel) and step in current.model_fields:
                current = current.model_fields[str(step)].annotation
    for choice in (current, *getattr(current, "__args__", ())):  # the union's member, where the value may be absent
        if isinstance(choice, type) and issubclass(choice, pydantic.BaseModel):
            return list(choice.model_fields)
    return []


def require_known_version(value: Any, newest: int, where: str) -> None:
    """Refuses what a later posa-vla wrote, in which anything may mean something else.

    Raises:
        LaterVersion: `schema_version` is above the newest one that is read here.
    """
    version = value.get("schema_version") if isinstance(value, dict) else None
    if isinstance(version, int) and version > newest:
        raise LaterVersion(
            f"{where} was written by a later posa-vla (schema_version {version}, this one reads up to {newest}): "
            "pip install --upgrade posa-vla (in a checkout: git pull && make setup)"
        )


def parse(schema: type[Model], value: Any, where: str) -> Model:
    """Validates `value`; `where` names its origin in the message.

    Raises:
        BadInput: One line for each thing that does not fit, or one for all of a later version.
    """
    versions = schema.model_fields.get("schema_version")
    if versions is not None:
        numbers = [number for number in get_args(versions.annotation) if isinstance(number, int)]
        require_known_version(value, max(numbers, default=sys.maxsize), where)
    try:
        return schema.model_validate(value)
    except pydantic.ValidationError as error:
        lines = []
        for problem in error.errors():
            place = ".".join(str(step) for step in problem["loc"]) or "(top level)"
            if problem["type"] == "extra_forbidden":
                known = _known_keys(schema, problem["loc"])
                hint = f"; {did_you_mean(str(problem['loc'][-1]), known)}" if known else ""
                lines.append(f"{where}: unknown key {place}{hint}")
            elif problem["type"] == "missing":
                lines.append(f"{where}: {place}: {problem['msg']}")
            else:
                got = problem["input"]
                quotes = problem["type"] == "string_type" and isinstance(got, bool | int | float)
                hint = ": write it in quotes" if quotes else ""
                lines.append(f"{where}: {place}: {problem['msg']}, got {got!r}"[:400] + hint)
        raise BadInput("\n".join(lines)) from None


def parse_json(schema: type[Model], data: bytes, where: str, *, limit: int = LARGEST) -> Model:
    """`parse` of JSON text; see `decode_json`.

    Raises:
        BadInput: The text is no JSON, or does not fit the schema.
    """
    return parse(schema, decode_json(data, where, limit=limit), where)
