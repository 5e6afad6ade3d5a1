"""Byte-compiles what the loop and its tests import, by importing it: a fifth of the files that are installed.

Only what is imported is compiled, and by one process: else every worker of the first run would compile it again. Run by
infra/setup.sh.
"""

from __future__ import annotations

import ast
import importlib
import sys
import tempfile
from pathlib import Path

from posa_vla.settings import Settings
from posa_vla.shell import enter

ROOT = Path(__file__).parent.parent

# What runs as a process of its own, named in a command line instead of an import.
PROCESSES = ("mlflow.server", "prefect.server.api.server", "ray.dashboard.agent", "ray.dashboard.dashboard", "xdist")


def imported() -> set[str]:
    """Modules of other packages that an import statement of the sources or the tests names."""
    names: set[str] = set(PROCESSES)
    for path in (path for folder in ("posa_vla", "flows", "tests") for path in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module)
    own = {"posa_vla", "flows", *sys.stdlib_module_names}
    return {name for name in names if name.split(".")[0] not in own}


def main() -> None:
    """Imports everything; nothing calls home, and what a package writes about itself is thrown away."""
    sys.dont_write_bytecode = False
    with tempfile.TemporaryDirectory() as home:
        enter(Settings(home=Path(home)))
        for module in sorted(imported()):
            try:
                importlib.import_module(module)
            except Exception:  # the tests' own modules, and what this machine cannot load: nothing to compile
                continue


if __name__ == "__main__":
    main()
