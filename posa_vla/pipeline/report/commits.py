"""The commits between two states of the code, where this installation is a checkout that knows both."""

from __future__ import annotations

from pathlib import Path

from posa_vla.code_git import ask_git, is_checkout
from posa_vla.code_root import CODE_ROOT
from posa_vla.errors import PosaError

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
    if "unknown" in (before, after) or not is_checkout(checkout):
        return None
    try:
        told = ask_git("log", "--oneline", "--no-decorate", "--end-of-options", f"{before}..{after}", folder=checkout)
    except PosaError:  # one of the two is not in this history
        return None
    lines = told.splitlines()
    more = len(lines) - _LISTED
    return lines[:_LISTED] + ([f"and {more} more"] if more > 0 else [])
