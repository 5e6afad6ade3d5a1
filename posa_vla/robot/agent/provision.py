"""What a robot is handed out of band, once: the channel's root of trust, and whose signatures count for it."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

from posa_vla.errors import BadInput
from posa_vla.release.trust import Trust, read_trust, write_trust


def tuf_state(home: Path) -> Path:
    """Where the channel's client keeps the metadata that it has seen: what it has seen once, it never goes behind."""
    return home / "tuf"


def provision(home: Path, root: bytes, trust: Trust) -> None:
    """Hands a robot its trust; the same trust twice changes nothing.

    Another root is another chain of trust: the client's metadata starts anew with it.
    """
    path = home / "trust" / "root.json"
    if path.exists() and path.read_bytes() != root:
        shutil.rmtree(tuf_state(home), ignore_errors=True)
    write_trust(home / "trust", root, trust)


def trust_of(home: Path) -> tuple[bytes, Trust]:
    """What the robot was handed.

    Raises:
        BadInput: It was never provisioned, or a file is damaged.
    """
    folder = home / "trust"
    if not (folder / "root.json").exists():
        command = f"posa robot provision --home {shlex.quote(str(home))} --trust DIR"
        raise BadInput(f"{home} has no trust yet: provision it first, `{command}`")
    return read_trust(folder)
