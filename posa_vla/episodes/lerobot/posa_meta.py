"""`meta/posa.json`: what a LeRobot dataset has no field for, written with each of ours and read back."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from posa_vla.episodes.embodiment import Embodiment
from posa_vla.episodes.episode import Source
from posa_vla.episodes.lerobot.layout import POSA_PATH
from posa_vla.episodes.outside_files import inside_json
from posa_vla.errors import BadInput
from posa_vla.files import canonical_json
from posa_vla.schema import Closed, parse


def _absent(value: object) -> bool:
    return value is None


class PosaEpisode(Closed):
    """What `meta/posa.json` says of one episode.

    `instruction` is there where the frames' tasks (`task_index`) are what the robot was asked frame by frame.
    """

    digest: str = Field(pattern=r"^[0-9a-f]{64}$")
    success: bool
    source: Source
    scene: dict[str, Any]
    instruction: str | None = Field(default=None, exclude_if=_absent)


class PosaMeta(Closed):
    """`meta/posa.json`.

    `hashed` says what of still images the episodes' digests are made of: pixels of images that were recorded here,
    bytes of images that came encoded. A dataset with an episode that has words for its frames has version 2, one of a
    robot with several end effectors version 3.
    """

    schema_version: Literal[1, 2, 3]
    hashed: Literal["pixels", "bytes"] = "pixels"
    digest: str = Field(pattern=r"^[0-9a-f]{64}$")
    embodiment: Embodiment
    episodes: list[PosaEpisode]


def read_posa(folder: Path, numbers: list[int]) -> PosaMeta:
    """The file of a dataset from outside.

    Args:
        folder: The dataset.
        numbers: Its episodes, which the file must be of.

    Raises:
        BadInput: The file cannot be read, does not fit the schema, or lists other episodes.
    """
    posa = parse(PosaMeta, inside_json(folder, POSA_PATH), POSA_PATH)
    if numbers != list(range(len(posa.episodes))):
        raise BadInput(
            f"{POSA_PATH} is of {len(posa.episodes)} episodes numbered from 0, the dataset has {numbers[:9]}"
        )
    try:
        canonical_json([episode.scene for episode in posa.episodes])
    except (TypeError, ValueError, RecursionError):
        raise BadInput(f"{POSA_PATH}: a scene holds something that is no JSON, as NaN") from None
    return posa
