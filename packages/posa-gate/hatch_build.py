"""Puts the modules that posa-gate needs into its wheel: copied from posa_vla, and called posa_gate."""

from __future__ import annotations

import ast
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

CHECKOUT = Path(__file__).resolve().parents[2]
SOURCE, NAME = "posa_vla", "posa_gate"
PROGRAM = "posa_vla.cli.gate.alone"


def _file(module: str) -> Path | None:
    """Where a module of ours lies; None for what is none."""
    place = CHECKOUT / module.replace(".", "/")
    return next((path for path in (place.with_suffix(".py"), place / "__init__.py") if path.is_file()), None)


def _imported(path: Path) -> Iterator[str]:
    """Modules of ours that a file imports anywhere, with the packages that they are in."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        yield from (name for name in names if name.split(".")[0] == SOURCE)


def modules() -> dict[str, Path]:
    """All modules that the program can reach, by name."""
    found: dict[str, Path] = {}
    waiting = [PROGRAM]
    while waiting:
        name = waiting.pop()
        path = _file(name)
        if path is None or name in found:
            continue
        found[name] = path
        waiting += [name.rpartition(".")[0], *_imported(path)]
    return found


def write_package(folder: Path) -> Path:
    """Writes the package below a folder, and returns its place."""
    for path in modules().values():
        target = folder / NAME / path.relative_to(CHECKOUT / SOURCE)
        target.parent.mkdir(parents=True, exist_ok=True)
        text = re.sub(rf"\b{SOURCE}\b", NAME, path.read_text(encoding="utf-8"))
        target.write_text(text, encoding="utf-8")
    return folder / NAME


class PosaGateHook(BuildHookInterface):
    """Called by hatchling."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Adds the package to the wheel."""
        self._draft = tempfile.TemporaryDirectory()
        build_data["force_include"][str(write_package(Path(self._draft.name)))] = NAME

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Removes the draft."""
        self._draft.cleanup()
