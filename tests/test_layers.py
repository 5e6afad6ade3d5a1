"""The layers of docs/architecture.md hold."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from posa_vla.code_root import CODE_ROOT, PACKAGE

ROOT = Path(__file__).parents[1]


def test_no_import_goes_up_a_layer() -> None:
    lint = Path(sys.executable).parent / "lint-imports"
    done = subprocess.run([str(lint), "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_root_of_the_code_is_derived_in_one_place() -> None:
    climbs = re.compile(r"Path\(__file__\)(\.resolve\(\))?\.(parents\[|parent\.parent)")
    files = [path for folder in ("posa_vla", "flows") for path in sorted((ROOT / folder).rglob("*.py"))]
    found = [str(path.relative_to(ROOT)) for path in files if climbs.search(path.read_text())]
    assert found == [], "take PACKAGE or CODE_ROOT of posa_vla/code_root.py"
    assert (CODE_ROOT, PACKAGE) == (ROOT, ROOT / "posa_vla")
