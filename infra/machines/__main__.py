"""Runs the table of machines and settings, each row in a fresh folder, and says what fell.

.venv/bin/python infra/machines [--quick] [--list] [ROW...]

Exit code 1: at least one row fell. The rows are functions in `*_rows.py` beside this file; machine_row.py says how.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from machine_row import Absent, fresh_place, read_rows


def main() -> int:
    """Runs the rows that are asked for; without names, all."""
    rows = read_rows()
    parser = argparse.ArgumentParser(prog="infra/machines", description="The table of machines and settings.")
    parser.add_argument("rows", nargs="*", metavar="ROW", help="names of rows; all without any")
    parser.add_argument("--quick", action="store_true", help="leave out the slow rows")
    parser.add_argument("--list", action="store_true", help="show the rows and run none")
    asked = parser.parse_args()
    unknown = [name for name in asked.rows if name not in rows]
    if unknown:
        parser.error(f"there is no row {', '.join(unknown)}; there are: {', '.join(rows)}")
    chosen = [row for row in rows.values() if row.name in asked.rows or not asked.rows]
    chosen = [row for row in chosen if not (asked.quick and row.slow)]
    if asked.list:
        for row in chosen:
            print(f"{row.name:28} {'slow ' if row.slow else '     '}{row.what}")
        return 0
    fell, absent = [], []
    for number, row in enumerate(chosen, 1):
        print(f"[{number}/{len(chosen)}] {row.name}: {row.what}", flush=True)
        start = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="posa-machine-", ignore_cleanup_errors=True) as scratch:
            try:
                row.check(fresh_place(Path(scratch) / "folder"))
                told = "holds"
            except Absent as reason:
                absent.append(row.name)
                told = f"not shown here: {reason}"
            except Exception as problem:  # whatever it is, the other rows are run
                fell.append(row.name)
                told = "FELL: " + (str(problem) if isinstance(problem, AssertionError) else repr(problem))
        print(f"    {told} ({time.monotonic() - start:.1f} s)", flush=True)
    told = f"{len(chosen) - len(fell) - len(absent)} of {len(chosen)} rows hold"
    told += f"; not shown here: {', '.join(absent)}" if absent else ""
    print(told + (f"; fell: {', '.join(fell)}" if fell else ""))
    return 1 if fell else 0


if __name__ == "__main__":
    sys.exit(main())
