"""`posa gate`: the statistics of promotions, for trials of any policy."""

from __future__ import annotations

import typer

from posa_vla.cli.gate.account import account
from posa_vla.cli.gate.explain import explain
from posa_vla.cli.gate.judge import judge
from posa_vla.cli.gate.plan import plan
from posa_vla.cli.gate.reference import reference

app = typer.Typer(help="Judge a policy against another, with a stated error rate.", no_args_is_help=True)
for command in (judge, plan, account, explain, reference):
    app.command()(command)


@app.callback()
def root() -> None:
    """Judge a policy against another, with a chance of a false promotion that holds however often one looks."""
