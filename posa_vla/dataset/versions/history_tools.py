"""The programs that keep the data's history: DVC and git."""

from __future__ import annotations

import importlib.util
import shutil

from posa_vla.errors import BadInput, to_install


def require_tools() -> None:
    """Stops before any work where the tools of the data's history are missing.

    Raises:
        BadInput: DVC or git is not installed.
    """
    if importlib.util.find_spec("dvc") is None:
        raise BadInput(f"DVC is not installed, and data versions need it: {to_install('platform')}")
    if shutil.which("git") is None:
        raise BadInput("git is not installed, and the data's history needs it: sudo apt-get install git")
