"""What an ablation of the anchors asks of its demonstrations."""

from __future__ import annotations

from pathlib import Path

from posa_vla.dataset.shards.manifest import read_manifest, untaught
from posa_vla.errors import BadInput


def require_taught(data: Path) -> None:
    """Refuses prepared data on which an ablation of the anchors says nothing.

    Raises:
        BadInput: They do not teach the anchors.
    """
    said = untaught(read_manifest(data))
    if said:
        raise BadInput(
            f"{said}. An ablation asks what anchors do, and on these data its variants would be the same network "
            "without any: give it data that teach the anchors"
        )
