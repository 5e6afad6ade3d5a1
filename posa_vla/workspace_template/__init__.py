"""The files that a workspace starts from: params.yaml and dvc.yaml."""

from __future__ import annotations

from pathlib import Path

from posa_vla.errors import BadInput


def template_file(name: str) -> Path:
    """A template, from the wheel where it lies beside this module, or from the root of the checkout.

    Raises:
        BadInput: There is no template of that name.
    """
    here = Path(__file__).parent
    for place in (here / name, here.parent.parent / name):
        if place.is_file():
            return place
    raise BadInput(f"template {name} is missing beside {here}: install posa-vla again")
