"""A flag for each setting of a robot, made of the schema of `robot.yaml`: one name and one explanation for each."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer

from posa_vla.params_file import assignment
from posa_vla.robot.settings import fields

# Short for `--option task=...` and `--option objects=...`.
_SHORT = {"task": (str, "Task of the episodes."), "objects": (int, "Objects of a simulated scene.")}


def settings_flags(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command the flags of a robot's settings; its argument `flags` gets those that were given, by setting."""
    signature = inspect.signature(command, eval_str=True)
    flags = dict(_flags())

    @functools.wraps(command)
    def with_flags(**arguments: Any) -> None:
        values = {name: value for name in flags if (value := arguments.pop(name)) is not None}
        own: dict[str, Any] = {}
        for text in values.pop("options", None) or []:
            own.update(assignment(text, "--option", "task=pick"))
        own.update({name: values.pop(name) for name in _SHORT if name in values})
        command(flags={**values, "options": own} if own else values, **arguments)

    kept = [parameter for name, parameter in signature.parameters.items() if name != "flags"]
    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
        for name, annotation in flags.items()
    ]
    keyword = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in kept]
    with_flags.__signature__ = signature.replace(parameters=[*added, *keyword])  # type: ignore[attr-defined] # read by Typer
    return with_flags


def _flags() -> list[tuple[str, Any]]:
    made: list[tuple[str, Any]] = []
    for name, field in fields().items():
        flag, help_text = f"--{name.replace('_', '-')}", field.description
        if name == "schema_version":
            continue
        if name == "options":
            option = typer.Option("--option", metavar="KEY=VALUE", help=f"{help_text} Repeatable.")
            made.append((name, Annotated[list[str] | None, option]))
        elif field.annotation is bool:
            made.append((name, Annotated[bool | None, typer.Option(f"{flag}/--no-{flag[2:]}", help=help_text)]))
        else:
            made.append((name, Annotated[field.annotation | None, typer.Option(flag, help=help_text)]))  # type: ignore[operator] # a type
    for name, (kind, help_text) in _SHORT.items():
        made.append((name, Annotated[kind | None, typer.Option(f"--{name}", help=help_text)]))
    return made
