"""The `posa` command: finds the module of a command, imports that one alone, and turns errors into exit codes."""

from __future__ import annotations

import errno
import importlib
import os
import sys
from dataclasses import dataclass

import typer

from posa_vla import console
from posa_vla.errors import BadInput, PosaError
from posa_vla.settings import Settings, environment

INTERRUPTED = 130


@dataclass(frozen=True)
class Command:
    """Where a command lives.

    Attributes:
        module: Its module, imported when the command is called or its help is asked for.
        attribute: The function of a single command, or the Typer application of a group.
        extras: Extras of the distribution that the command needs.
    """

    module: str
    attribute: str = "app"
    extras: str = ""


COMMANDS = {
    "retrain": Command("posa_vla.cli.retrain", "retrain", "platform,sim"),
    "data": Command("posa_vla.cli.data", extras="platform,sim"),
    "train": Command("posa_vla.cli.train", "train", "platform"),
    "evaluate": Command("posa_vla.cli.evaluate", extras="platform,sim"),
    "explain": Command("posa_vla.cli.explain", "explain", "platform"),
    "ablate": Command("posa_vla.cli.ablate", "ablate", "platform,sim"),
    "export": Command("posa_vla.cli.export", "export"),
    "promote": Command("posa_vla.cli.promote", "promote", "platform"),
    "approve": Command("posa_vla.cli.promote", "approve"),
    "reproduce": Command("posa_vla.cli.reproduce", "reproduce", "platform,sim"),
    "rollback": Command("posa_vla.cli.rollback", "rollback", "platform"),
    "gc": Command("posa_vla.cli.gc", "gc", "platform"),
    "worker": Command("posa_vla.cli.worker", "worker", "platform"),
    "bootstrap": Command("posa_vla.cli.bootstrap", extras="platform"),
    "robot": Command("posa_vla.cli.robot"),
    "demo": Command("posa_vla.cli.demo", extras="platform,sim"),
    "init": Command("posa_vla.cli.init", "init"),
    "doctor": Command("posa_vla.cli.doctor", "doctor"),
    "ui": Command("posa_vla.cli.ui", "ui", "platform"),
}


def application(names: list[str]) -> typer.Typer:
    """The Typer application with the commands of `names` mounted."""
    app = typer.Typer(
        name="posa",
        help="From demonstrations to a verified policy on a robot, again and again.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )

    @app.callback()
    def root() -> None: ...

    for name in names:
        command = COMMANDS[name]
        target = getattr(importlib.import_module(command.module), command.attribute)
        if isinstance(target, typer.Typer):
            app.add_typer(target, name=name)
        else:
            app.command(name)(target)
    return app


def wanted(arguments: list[str]) -> list[str]:
    """The commands to mount: the one that is called, or all of them for the overview and for a misspelt one."""
    first = next((a for a in arguments if not a.startswith("-")), None)
    return [first] if first in COMMANDS else list(COMMANDS)


def main(arguments: list[str] | None = None) -> None:
    """Runs `posa` and exits with the code that errors.py gives to what happened."""
    arguments = sys.argv[1:] if arguments is None else arguments
    as_json = "--json" in arguments and "--help" not in arguments
    if as_json:
        console.reserve_stdout()
    console.log_to_stderr()
    try:
        os.environ.update(environment(Settings()))
        code = _run(arguments)
        if code and as_json and not console.printed_json():
            console.print_json({"error": {"message": "said on standard error", "exit_code": code}})
        sys.exit(code)
    except PosaError as error:
        message, code = str(error), error.exit_code
    except OSError as error:
        remedy = "look at the path and its permissions, and run the same command again"
        what = f"the operating system refused ({type(error).__name__})"
        if error.errno == errno.ENOSPC:
            what, remedy = "the disk is full", "make room and run the same command again, it continues"
        message, code = f"{what}: {error}; {remedy}", 1
    console.say(f"error: {message}")
    if as_json and not console.printed_json():
        console.print_json({"error": {"message": message, "exit_code": code}})
    sys.exit(code)


def _run(arguments: list[str]) -> int:
    names = wanted(arguments)
    try:
        application(names)(arguments, prog_name="posa")
    except SystemExit as stop:
        if stop.code == INTERRUPTED:
            console.say("interrupted: the same command continues where this one stopped")
        return stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 1
    except ModuleNotFoundError as error:
        extras = COMMANDS[names[0]].extras if len(names) == 1 else ""
        package = (error.name or "").split(".")[0]
        if not extras or package in {"posa_vla", "flows"}:
            raise
        raise BadInput(
            f"`posa {names[0]}` needs the package {package!r}, which is not installed: "
            f"pip install 'posa-vla[{extras}]' (in a checkout: make setup)"
        ) from None
    return 0


if __name__ == "__main__":
    main()
