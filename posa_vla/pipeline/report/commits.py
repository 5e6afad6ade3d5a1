"""The commits between two states of the code, where this installation is a checkout that knows both."""

from __future__ import annotations

import subprocess
from pathlib import Path

from posa_vla.code_root import CODE_ROOT

# Lines that the page lists.
_LISTED = 40


def commits_between(before: str, after: str, checkout: Path = CODE_ROOT) -> list[str] | None:
    """One line a commit that `after` has and `before` has not, newest first; None where that cannot be told.

    Args:
        before: Commit of the champion's code.
        after: Commit of the candidate's.
        checkout: Working tree whose history is asked.
    """
    if before == after:
        return None if before == "unknown" else []
    if "unknown" in (before, after) or not (checkout / ".git").exists():
        return None
    command = [
        "git",
        "-C",
        str(checkout),
        "log",
        "--oneline",
        "--no-decorate",
        "--end-of-options",
        f"{before}..{after}",
    ]
    try:
        done = subprocess.run(command, capture_output=True, encoding="utf-8")
    except FileNotFoundError:  # no git
        return None
    if done.returncode:
        return None
    lines = done.stdout.splitlines()
    more = len(lines) - _LISTED
    return lines[:_LISTED] + ([f"and {more} more"] if more > 0 else [])
