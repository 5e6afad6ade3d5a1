"""The manifest of prepared data: what the shards beside it hold."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from posa_vla.episodes.embodiment import Embodiment
from posa_vla.errors import BadInput
from posa_vla.files import read_json
from posa_vla.schema import Closed, parse
from posa_vla.target_params import EVERYTHING, Where, as_ever

# Its name in a folder of prepared data.
MANIFEST = "manifest.json"
# Share of the frames with a task label, below which nothing teaches the anchors where to look.
TAUGHT = 0.05


def _empty(value: object) -> bool:
    return value in ([], {})


def _none(value: object) -> bool:
    return value == 0


class SplitCount(Closed):
    """How much a split holds."""

    episodes: int
    frames: int


class LabelShare(Closed):
    """Share of a camera's frames that have each anchor label; frames without one are masked out of the loss.

    `end_effector` is the mean of several.
    """

    task: float
    end_effector: float


class PreparedManifest(Closed):
    """`manifest.json` of prepared data.

    Attributes:
        schema_version: Version of this document's layout; 2 where there are several end effectors, 3 where cameras are
            absent or frames were left out.
        labels: Camera role -> share of labelled frames; empty in data that were prepared before labels were counted.
        end_effectors: Names of several end effectors, in the order of their anchor channels; empty where one is.
        embodiment: Declaration of the robot whose episodes are packed.
        image_size: Side of the square pictures, pixels.
        cameras: Camera roles, in the embodiment's order.
        captions: What robots were asked, episode by episode and frame by frame; the shards name one for each frame.
        state_dim: Channels of the state.
        action_dim: Channels of the action.
        fps: Control rate, Hz.
        splits: Split -> episodes and frames.
        absent: Camera role -> frames of episodes that lack the camera (version 3); those that no episode lacks are left
            out. Their pictures are black, and the shards' `present.ROLE` says so.
        trimmed: Idle frames at the ends of episodes that were left out (version 3).
        source_digest: Hex SHA-256 of the store that the episodes came from; empty where they came from none.
        where: Filter that the episodes were chosen by.
    """

    schema_version: Literal[1, 2, 3] = 1
    labels: dict[str, LabelShare] = Field(default_factory=dict)
    end_effectors: list[str] = Field(default_factory=list, exclude_if=_empty)
    embodiment: Embodiment
    image_size: int
    cameras: list[str]
    captions: list[str]
    state_dim: int
    action_dim: int
    fps: float
    splits: dict[str, SplitCount]
    absent: dict[str, int] = Field(default_factory=dict, exclude_if=_empty)
    trimmed: int = Field(default=0, exclude_if=_none)
    source_digest: str
    where: Where = Field(default=EVERYTHING, exclude_if=as_ever)

    @property
    def task_share(self) -> float | None:
        """Share of the frames that have a task label, over all cameras: a masked one has none; None if not counted."""
        return sum(share.task for share in self.labels.values()) / len(self.labels) if self.labels else None


def untaught(manifest: PreparedManifest) -> str:
    """That the data do not teach the anchors, in words with what to do; empty where they do."""
    share = manifest.task_share
    if share is None or share >= TAUGHT:
        return ""
    without = [role for role, labels in manifest.labels.items() if labels.task < TAUGHT]
    return (
        f"{share:.1%} of the frames have a task label, expected {TAUGHT:.0%} at least (cameras below it: "
        f"{', '.join(without)}): nothing teaches the anchors where to look; docs/your-recordings.md says how joints "
        "and `posa data calibrate` give the labels"
    )


def read_manifest(folder: Path) -> PreparedManifest:
    """Reads the manifest of a folder of prepared data.

    Raises:
        BadInput: The folder is not prepared data, or a later posa-vla prepared it.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise BadInput(f"{folder} is not prepared data (no {MANIFEST}): make it with `posa data prepare`")
    return parse(PreparedManifest, read_json(path), str(path))
