"""What Python code this process and its children import: ours and what is installed, nothing that shell or folder have.

A module named `types.py`, `secrets.py` or `flows` stands in for the real one wherever Python finds it first. So this
module, which is there to prevent that, imports nothing that such a file could stand in for.
"""

from __future__ import annotations

import os
import sys

# As in code_root.py, whose pathlib imports too much.
_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

# Variables of Python's own that change what is imported, or how it runs.
_OF_PYTHON = (
    "PYTHONHOME",
    "PYTHONINSPECT",
    "PYTHONOPTIMIZE",
    "PYTHONPATH",
    "PYTHONPLATLIBDIR",
    "PYTHONWARNINGS",
)
# Folders of a PYTHONPATH that was left out, for drivers of robots (ROS comes in this way).
_DRIVERS = "POSA_DRIVER_PATH"


def own_python(variables: dict[str, str]) -> dict[str, str]:
    """Variables with which a Python process imports our code, what is installed, and nothing of its working folder."""
    kept = {name: value for name, value in variables.items() if name not in _OF_PYTHON}
    kept["PYTHONSAFEPATH"] = "1"
    if os.path.basename(_ROOT) not in ("site-packages", "dist-packages"):
        kept["PYTHONPATH"] = _ROOT
    return kept


def begin() -> None:
    """Begins this process anew where shell or folder could stand in for our code; returns where they cannot.

    The new process gets no PYTHONPATH of the shell's. The driver of a robot may need it: `posa robot` looks there last.
    """
    wanted = own_python(dict(os.environ))
    theirs = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path and path != _ROOT]
    unclean = bool(theirs) or any(name in os.environ for name in _OF_PYTHON if name != "PYTHONPATH")
    if unclean or _imports_from_folder():
        if theirs:
            wanted[_DRIVERS] = os.pathsep.join(os.path.abspath(path) for path in theirs)
        os.execve(sys.executable, [sys.executable, "-P", "-m", "posa_vla.cli.start", *sys.argv[1:]], wanted)
    if wanted.get("PYTHONPATH") and sys.path[0] != _ROOT:
        sys.path.insert(0, _ROOT)  # before a `flows` that somebody has installed
    drivers = os.environ.pop(_DRIVERS, "")
    if drivers and "robot" in sys.argv[1:2]:
        sys.path.extend(drivers.split(os.pathsep))


def _imports_from_folder() -> bool:
    """Whether Python looks into the working folder first, as it does after `python -m`."""
    try:
        here = os.getcwd()
    except OSError:  # deleted
        return False
    return not sys.flags.safe_path and sys.path[0] in ("", here) and here != _ROOT
