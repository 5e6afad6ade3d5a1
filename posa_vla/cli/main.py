"""The `posa` command: finds the module of a command, imports that one alone, and turns errors into exit codes."""

from __future__ import annotations

import errno
import importlib
import importlib.metadata
import re
import sys
from contextlib import nullcontext
from dataclasses import dataclass

import typer

from posa_vla import console
from posa_vla.cli import terminal
from posa_vla.errors import BadInput, PosaError, to_install

INTERRUPTED = 130


@dataclass(frozen=True)
class Command:
    """Where a command lives.

    Attributes:
        module: Its module, imported when the command is called or its own help is asked for.
        summary: Its line in the overview, short enough to be shown whole.
        attribute: The function of a single command, or the Typer application of a group.
        extras: Extras of the distribution that the command needs.
    """

    module: str
    summary: str
    attribute: str = "app"
    extras: str = ""


COMMANDS = {
    "retrain": Command(
        "posa_vla.cli.retrain",
        "Collect, train, evaluate, decide, release, run on the robot.",
        "retrain",
        "platform,sim",
    ),
    "data": Command(
        "posa_vla.cli.data.group", "Collect, ingest, validate and version demonstrations.", extras="platform,sim"
    ),
    "train": Command(
        "posa_vla.cli.train", "Train PosA-VLA on prepared data; continue a killed training.", "train", "platform"
    ),
    "evaluate": Command(
        "posa_vla.cli.evaluate", "Run a policy; measure its success, with an interval.", extras="platform,sim"
    ),
    "explain": Command(
        "posa_vla.cli.explain", "Show where a policy looked in a recorded episode.", "explain", "platform"
    ),
    "ablate": Command("posa_vla.cli.ablate", "Train with and without anchors, and compare.", "ablate", "platform,sim"),
    "export": Command("posa_vla.cli.export", "Write a policy as one file that torch runs alone.", "export"),
    "promote": Command(
        "posa_vla.cli.promote", "Judge a candidate; register it; release it if it passes.", "promote", "platform"
    ),
    "gate": Command("posa_vla.cli.gate.group", "Judge a policy against another, with a stated error rate."),
    "approve": Command("posa_vla.cli.promote", "Approve a release: sign its record.", "approve"),
    "reproduce": Command(
        "posa_vla.cli.reproduce",
        "Train a registered model again from its data and code.",
        "reproduce",
        "platform,sim",
    ),
    "rollback": Command("posa_vla.cli.rollback", "Publish an earlier release again.", "rollback", "platform"),
    "gc": Command("posa_vla.cli.gc", "Remove old files that nothing needs.", "gc", "platform"),
    "worker": Command(
        "posa_vla.cli.worker", "Carry out flow runs of a Prefect server, in this folder.", "worker", "platform"
    ),
    "bootstrap": Command(
        "posa_vla.cli.bootstrap", "Create what servers need: buckets, keys, deployments.", extras="platform"
    ),
    "robot": Command("posa_vla.cli.robot", "On a robot: hand over trust, take releases, run episodes."),
    "demo": Command("posa_vla.cli.demo", "Show a safeguard of the loop at work.", extras="platform,sim"),
    "init": Command("posa_vla.cli.init", "Write params.yaml into a new folder.", "init"),
    "doctor": Command("posa_vla.cli.doctor.command", "Check packages, workspace and servers.", "doctor"),
    "ui": Command("posa_vla.cli.ui", "Start MLflow's and Prefect's pages on this machine.", "ui", "platform"),
}


def overview() -> typer.Typer:
    """The Typer application that lists every command and can run none: no command's module is imported."""
    app = _bare()
    for name, command in COMMANDS.items():
        app.command(name, help=command.summary)(lambda: None)
    return app


def application(name: str) -> typer.Typer:
    """The Typer application with the command `name` mounted."""
    app = _bare()
    command = COMMANDS[name]
    target = getattr(importlib.import_module(command.module), command.attribute)
    if isinstance(target, typer.Typer):
        app.add_typer(target, name=name)
    else:
        app.command(name)(target)
    return app


def _bare() -> typer.Typer:
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

    return app


def called(arguments: list[str]) -> str | None:
    """The command that is called; None where the overview is wanted, or a command is misspelt."""
    first = next((a for a in arguments if not a.startswith("-")), None)
    return first if first in COMMANDS else None


def main(arguments: list[str] | None = None) -> None:
    """Runs `posa` and exits with the code that errors.py gives to what happened."""
    if arguments is None:
        terminal.prepare()
        arguments = sys.argv[1:]
    as_json = "--json" in arguments and "--help" not in arguments
    console.log_to_stderr()
    with console.reserved_stdout() if as_json else nullcontext():
        sys.exit(_ended(arguments, as_json))


def _ended(arguments: list[str], as_json: bool) -> int:
    try:
        code = _run(called(arguments), arguments)
        if code and as_json and not console.printed_json():
            console.print_json({"error": {"message": "said on standard error", "exit_code": code}})
        return code
    except PosaError as error:
        message, code = str(error), error.exit_code
    except KeyboardInterrupt:  # while the command was being imported
        message, code = f"{terminal.ending_words()} before it began", terminal.exit_code() or INTERRUPTED
    except UnicodeEncodeError as error:
        message, code = f"{error.object!a} is no text: rename the file or folder that is named so", 2
    except OSError as error:
        remedy = "look at the path and its permissions, and run the same command again"
        what = f"the operating system refused ({type(error).__name__})"
        if error.errno == errno.ENOSPC:
            what, remedy = "the disk is full", "make room and run the same command again, it continues"
        message, code = f"{what}: {error}; {remedy}", 1
    console.say(f"error: {message}")
    if as_json and not console.printed_json():
        console.print_json({"error": {"message": message, "exit_code": code}})
    return code


def _run(name: str | None, arguments: list[str]) -> int:
    try:
        if name is None:
            overview()(arguments, prog_name="posa")
        else:
            from posa_vla.settings import Settings  # a third of a second that the overview does without
            from posa_vla.shell import enter

            enter(Settings())
            application(name)(arguments, prog_name="posa")
    except SystemExit as stop:
        if stop.code == INTERRUPTED:
            console.say(f"{terminal.ending_words()}: the same command continues where this one stopped")
            return terminal.exit_code() or INTERRUPTED
        return stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 1
    except ModuleNotFoundError as error:
        command, package = COMMANDS.get(name or ""), (error.name or "").split(".")[0]
        if command is None or not command.extras or package in {"posa_vla", "flows"}:
            raise
        remedy = to_install(_extras_to_add(command, package))
        raise BadInput(f"`posa {name}` needs the package {package!r}, which is not installed: {remedy}") from None
    return 0


def _extras_to_add(command: Command, package: str) -> str:
    """Extras that a command lacks; of a group, whose commands need different ones, those that bring the package."""
    if command.attribute != "app":
        return command.extras
    listed = importlib.metadata.requires("posa-vla") or []
    lines = [line for line in listed if re.match(rf"{re.escape(package)}(?![\w-])", line)]
    named = [name for name in command.extras.split(",") if any(re.search(rf"extra == .{name}\b", x) for x in lines)]
    return ",".join(named) or command.extras


if __name__ == "__main__":
    main()
