"""Whether `posa` would take the words of a command that a page or a message names."""

from __future__ import annotations

from functools import cache
from typing import Any

import typer.main

from posa_vla.cli.main import COMMANDS, application


@cache
def command(name: str) -> Any:
    """The command behind the first word after `posa`, as typer parses it."""
    return typer.main.get_command(application(name)).commands[name]  # type: ignore[attr-defined]  # a group


def options(parsed: Any) -> set[str]:
    """The options of a command and of all below it."""
    own = {name for parameter in parsed.params for name in parameter.opts if name.startswith("-")}
    return own.union(*(options(below) for below in getattr(parsed, "commands", {}).values()))


def wrong_command(words: list[str]) -> str | None:
    """What `posa` would refuse of these words; None where it takes them. Values are not looked at."""
    if words[0].startswith("-"):
        return None if words == ["--help"] else f"posa {words[0]}: no such option"
    if words[0] not in COMMANDS:
        return f"posa {words[0]}: no such command"
    parsed, rest, path = command(words[0]), words[1:], f"posa {words[0]}"
    while hasattr(parsed, "commands") and rest and not rest[0].startswith("-"):
        if rest[0] not in parsed.commands:
            return f"{path} {rest[0]}: no such command"
        path, parsed, rest = f"{path} {rest[0]}", parsed.commands[rest[0]], rest[1:]
    context = parsed.make_context(path, [], resilient_parsing=True)
    context.resilient_parsing = False
    try:
        _, left, _ = parsed.make_parser(context).parse_args([word for word in rest if word != "--help"])
    except Exception as error:  # click's own, of whichever copy typer carries
        return f"{path}: {getattr(error, 'message', '') or error!r}"
    return f"{path}: takes no {left}" if left and not hasattr(parsed, "commands") else None
