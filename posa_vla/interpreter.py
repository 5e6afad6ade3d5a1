"""How Python runs in this process and its children: it imports our code and what is installed, and speaks UTF-8.

A module named `types.py`, `secrets.py` or `flows` stands in for the real one wherever Python finds it first. So this
module, which is there to prevent that, imports nothing that such a file could stand in for.
"""

from __future__ import annotations

import os
import sys

# As in code_root.py, whose pathlib imports too much.
_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

# Variables of Python's own that change what is imported, how it runs, or in which encoding it speaks.
_OF_PYTHON = (
    "PYTHONHOME",
    "PYTHONINSPECT",
    "PYTHONIOENCODING",
    "PYTHONOPTIMIZE",
    "PYTHONPATH",
    "PYTHONPLATLIBDIR",
    "PYTHONWARNINGS",
)
# Folders of a PYTHONPATH that was left out, for drivers of robots (ROS comes in this way).
_DRIVERS = "POSA_DRIVER_PATH"
_INSTALLED = ("site-packages", "dist-packages")
_OURS = ("flows", "posa_vla")


def own_python(variables: dict[str, str]) -> dict[str, str]:
    """Variables with which a Python process imports our code, what is installed, and nothing of its working folder.

    It speaks UTF-8, whatever the locale: libraries ask Python for the encoding.
    """
    kept = {name: value for name, value in variables.items() if name not in _OF_PYTHON}
    kept["PYTHONSAFEPATH"] = "1"
    kept["PYTHONUTF8"] = "1"
    if os.path.basename(_ROOT) not in _INSTALLED:
        kept["PYTHONPATH"] = _ROOT
    return kept


def begin() -> None:
    """Begins this process anew where shell, folder or locale would decide how it runs; returns where they do not.

    The new process gets no PYTHONPATH of the shell's. The driver of a robot may need it: `posa robot` looks there last.
    """
    wanted = own_python(dict(os.environ))
    if "PYTHONPATH" in wanted and (file := _stand_in()):
        if sys.stderr is not None:  # closed
            sys.stderr.write(
                f"error: Python would import {file} in place of a module of its own, or of one that is "
                "installed: rename it\n"
            )
        sys.exit(2)
    named = os.environ.get("PYTHONPATH", "")
    # An empty entry, as in "/opt/theirs:", is the working folder.
    theirs = [path for path in named.split(os.pathsep) if path != _ROOT] if named else []
    unclean = bool(theirs) or any(name in os.environ for name in _OF_PYTHON if name != "PYTHONPATH")
    if unclean or _imports_from_folder() or sys.getfilesystemencoding() != "utf-8":
        if any(theirs):
            wanted[_DRIVERS] = os.pathsep.join(os.path.abspath(path) for path in theirs if path)
        os.execve(sys.executable, [sys.executable, "-P", "-m", "posa_vla.cli.start", *sys.argv[1:]], wanted)
    if "PYTHONPATH" in wanted and sys.path[0] != _ROOT:
        sys.path.insert(0, _ROOT)  # before a `flows` that somebody has installed
    drivers = os.environ.pop(_DRIVERS, "")
    if drivers and "robot" in sys.argv[1:2]:
        sys.path.extend(drivers.split(os.pathsep))


def _stand_in() -> str | None:
    """A file or package beside our code that is found before a module of Python's own or an installed one."""
    installed = [path for path in sys.path if os.path.basename(path) in _INSTALLED]
    for entry in os.listdir(_ROOT):
        name = entry.removesuffix(".py")
        hides = name in sys.stdlib_module_names or any(_is_module(place, name) for place in installed)
        if hides and name not in _OURS and _is_module(_ROOT, name):
            return os.path.join(_ROOT, entry)
    return None


def _is_module(folder: str, name: str) -> bool:
    path = os.path.join(folder, name)
    return os.path.isfile(f"{path}.py") or os.path.isfile(os.path.join(path, "__init__.py"))


def _imports_from_folder() -> bool:
    """Whether Python looks into the working folder first, as it does after `python -m`."""
    try:
        here = os.getcwd()
    except OSError:  # deleted
        return False
    return not sys.flags.safe_path and sys.path[0] in ("", here) and here != _ROOT
