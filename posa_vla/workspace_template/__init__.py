"""The files that a workspace starts from: params.yaml and dvc.yaml."""

from __future__ import annotations

from pathlib import Path

from posa_vla.code_root import CODE_ROOT
from posa_vla.errors import BadInput
from posa_vla.files import write_bytes

# The .gitignore of a workspace.
IGNORED = b".posa/\n"


def template_file(name: str) -> Path:
    """A template, from the wheel where it lies beside this module, or from the root of the checkout.

    Raises:
        BadInput: There is no template of that name.
    """
    here = Path(__file__).parent
    for place in (here / name, CODE_ROOT / name):
        if place.is_file():
            return place
    raise BadInput(f"template {name} is missing beside {here}: install posa-vla again")


def write_template(folder: Path) -> None:
    """Makes a folder a workspace: params.yaml, and a .gitignore for what the commands write.

    Raises:
        BadInput: It is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise BadInput(f"{folder} is not a folder")
    write_bytes(folder / "params.yaml", template_file("params.yaml").read_bytes())
    write_bytes(folder / ".gitignore", IGNORED)
