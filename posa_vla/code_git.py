"""Git, asked about the folder that the code lies in, whatever repository shell and working folder name."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from posa_vla.code_root import CODE_ROOT
from posa_vla.errors import PosaError


def is_checkout(folder: Path = CODE_ROOT) -> bool:
    """Whether a folder is the root of a git checkout; not whether a folder above it is one."""
    return (folder / ".git").exists()


def ask_git(*arguments: str, folder: Path = CODE_ROOT) -> str:
    """Git's answer about a checkout.

    Git exports `GIT_DIR` and more to its hooks, which would lead to another repository. A checkout of another owner,
    as in a container, is trusted: its code is what runs at this moment.

    Args:
        arguments: Of git.
        folder: Root of the checkout.

    Raises:
        PosaError: Git is not installed, or fails; the message ends with its own words.
    """
    variables = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    trust = ("-c", f"safe.directory={folder}", "-c", "core.fsmonitor=false")
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *trust, *arguments],
            env=variables | {"LC_ALL": "C.UTF-8", "GIT_TERMINAL_PROMPT": "0"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
        )
    except FileNotFoundError:
        raise PosaError("git is not installed: sudo apt-get install git") from None
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        told = next((line for line in lines if line.startswith("fatal: ")), lines[-1])
        raise PosaError(f"git {' '.join(arguments)} failed in {folder}: {told.removeprefix('fatal: ')}")
    return done.stdout.strip()
