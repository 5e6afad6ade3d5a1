"""The program `posa-gate`: these commands in a distribution of their own, without the rest of posa-vla."""

from __future__ import annotations

import sys

import typer

from posa_vla import console
from posa_vla.cli.gate.judge import judge
from posa_vla.cli.gate.plan import plan
from posa_vla.errors import PosaError

app = typer.Typer(help="Judge a policy against another, with a stated error rate.", no_args_is_help=True)
for command in (judge, plan):
    app.command()(command)


def main() -> None:
    """Runs `posa-gate` and exits; the codes are those of `posa`."""
    try:
        app(prog_name="posa-gate")
    except PosaError as error:
        message, code = str(error), error.exit_code
    except OSError as error:
        message, code = f"the operating system refused: {error}", 1
    console.say(f"error: {message}")
    if "--json" in sys.argv and not console.printed_json():
        console.print_json({"error": {"message": message, "exit_code": code}})
    sys.exit(code)


if __name__ == "__main__":
    main()
