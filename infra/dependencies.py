"""Prints what pyproject.toml asks for, one requirement a line: the base install and the extras that are named.

With --extras-alone the base install is left out.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
extras = [argument for argument in sys.argv[1:] if argument != "--extras-alone"]
base = [] if "--extras-alone" in sys.argv else [project["dependencies"]]
groups = [*base, *(project["optional-dependencies"][extra] for extra in extras)]
print("\n".join(requirement for group in groups for requirement in group))
