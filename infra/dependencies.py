"""Prints what pyproject.toml asks for, one requirement a line: the base install and the extras that are named."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]
groups = [project["dependencies"], *(project["optional-dependencies"][extra] for extra in sys.argv[1:])]
print("\n".join(requirement for group in groups for requirement in group))
