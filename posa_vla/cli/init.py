"""`posa init`: a workspace of one's own, without a clone of the repository."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from posa_vla.cli.options import AsJson


def init(
    folder: Annotated[Path, typer.Argument(help="A new or empty folder.")],
    as_json: AsJson = False,
) -> None:
    """Write params.yaml into a new folder, where every other command then works."""
    from posa_vla.console import print_json, say
    from posa_vla.errors import BadInput
    from posa_vla.workspace_template import write_template

    target = folder / "params.yaml"
    if target.exists():
        raise BadInput(f"{target} exists already: choose another folder")
    write_template(folder)
    if as_json:
        print_json({"folder": str(folder.resolve()), "params": str(target.resolve())})
    else:
        say(f"{target} written. Next: cd {folder} && posa retrain --preset demo")
