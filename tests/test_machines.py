"""The table of machines and settings (infra/machines): what odd shells, folders and processors decide."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from machine_row import ROOT, Absent, Row, fresh_place, read_rows

SOME_ROWS = """
from machine_row import row

@row("nothing")
def holds(place):
    pass

@row("everything")
def falls(place):
    raise AssertionError("it fell")
"""


def cases() -> list[object]:
    return [
        pytest.param(row, id=row.name, marks=[pytest.mark.long] if row.slow else []) for row in read_rows().values()
    ]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("row", cases())
def test_a_row_of_the_table_holds(row: Row, tmp_path: Path) -> None:
    try:
        row.check(fresh_place(tmp_path / "folder"))
    except Absent as reason:
        pytest.skip(str(reason))


def test_the_script_says_what_fell(tmp_path: Path) -> None:
    """On a copy of the table with a row that cannot hold."""
    table = tmp_path / "infra" / "machines"
    table.mkdir(parents=True)
    for name in ("__main__.py", "machine_row.py"):
        (table / name).write_text((ROOT / "infra" / "machines" / name).read_text())
    (tmp_path / "params.yaml").write_text("")
    (table / "some_rows.py").write_text(SOME_ROWS)
    command = [sys.executable, str(table)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    assert "FELL: it fell" in done.stdout
    assert done.stdout.endswith("1 of 2 rows hold; fell: falls\n")
    assert subprocess.run([*command, "holds"], capture_output=True).returncode == 0
    unknown = subprocess.run([*command, "hold"], capture_output=True, text=True)
    assert unknown.returncode == 2
    assert "there is no row hold" in unknown.stderr
