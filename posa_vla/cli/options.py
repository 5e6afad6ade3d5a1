"""Options that several commands share, and how they are read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from posa_vla.cli.json_option import AsJson as AsJson

if TYPE_CHECKING:
    from posa_vla.params import Params

ParamsFile = Annotated[Path, typer.Option("--params", help="Parameter file; by default params.yaml.")]
Preset = Annotated[str | None, typer.Option("--preset", help="Shipped overlay: demo, tiny, small, paper.")]
Set = Annotated[list[str] | None, typer.Option("--set", help="One parameter, e.g. train.steps=100; repeatable.")]


WorkspaceFolder = Annotated[
    Path | None, typer.Option("--workspace", help="Folder with params.yaml and .posa/; by default the current one.")
]


def enter_workspace(folder: Path | None, params_file: Path, *, may_be_new: bool = False) -> Path:
    """Makes a folder the workspace of this process and its children.

    Returns:
        The parameter file: a relative one is looked for in the folder.

    Raises:
        BadInput: There is no such folder, or it is a file.
    """
    import os

    from posa_vla.errors import BadInput
    from posa_vla.settings import Settings
    from posa_vla.shell import enter

    if folder is None:
        return params_file
    if folder.exists() and not folder.is_dir():
        raise BadInput(f"--workspace {folder} is a file, expected a folder with params.yaml and .posa/")
    if not folder.exists() and not may_be_new:
        raise BadInput(f"--workspace {folder} does not exist: `posa data ingest` and `posa init` make one")
    os.environ["POSA_HOME"] = str(folder.resolve() / ".posa")
    enter(Settings())
    return folder / params_file


def require_params(path: Path) -> None:
    """Stops where there is no parameter file.

    Raises:
        BadInput: There is no such file.
    """
    from posa_vla.errors import BadInput

    if not path.exists():
        raise BadInput(f"{path} does not exist: run in a checkout, or make a workspace with `posa init DIR`")


def read_params(path: Path, preset: str | None, settings: list[str] | None) -> Params:
    """Reads the parameters that a command was given.

    Raises:
        BadInput: No such file, unknown key, unfitting value.
    """
    from posa_vla.params_file import load_params

    require_params(path)
    return load_params(path, preset, settings)
