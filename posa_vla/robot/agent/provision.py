"""What a robot is handed out of band, once: the channel's root of trust, and whose signatures count for it."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

from posa_vla.errors import BadInput
from posa_vla.release.trust import Trust, read_trust, write_trust
from posa_vla.robot.agent.slots import Slots


def tuf_state(home: Path) -> Path:
    """Where the channel's client keeps the metadata that it has seen; it takes no older metadata after that."""
    return home / "tuf"


def provision(home: Path, root: bytes, trust: Trust) -> None:
    """Hands a robot its trust; the same trust twice changes nothing.

    Another root is another chain of trust: the client's metadata and the records' sequences start anew with it.

    Raises:
        Busy: The root is another, and an agent holds the robot's home.
        Refused: The root is another, and the robot's `state.json` cannot be read.
    """
    path = home / "trust" / "root.json"
    if not path.exists() or path.read_bytes() == root:
        write_trust(home / "trust", root, trust)
        return
    slots = Slots(home)
    with slots.lock():
        # Before the trust is written: a call that is killed here is carried out whole by the next one.
        shutil.rmtree(tuf_state(home), ignore_errors=True)
        slots.forget_seen()
        write_trust(home / "trust", root, trust)


def trust_of(home: Path) -> tuple[bytes, Trust]:
    """What the robot was handed.

    Raises:
        BadInput: The robot was never provisioned, or a file is damaged.
    """
    folder = home / "trust"
    if not (folder / "root.json").exists():
        command = f"posa robot provision --home {shlex.quote(str(home))} --trust DIR"
        raise BadInput(f"{home} has no trust yet: provision it first, `{command}`")
    return read_trust(folder)
