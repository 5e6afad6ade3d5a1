"""Which image features of a dataset are depth: distances are no colours, and nothing that a colour camera saw."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from typing import Any

from posa_vla.episodes.foreign.dataset import SourceDataset
from posa_vla.episodes.lerobot.layout import IMAGES
from posa_vla.episodes.media.stills import StoredStills, deep_still
from posa_vla.episodes.media.video_file import deep_grey_video
from posa_vla.episodes.outside_files import MALFORMED, file_inside
from posa_vla.errors import BadInput

# Episodes whose first picture is looked at until one can be read.
_LOOKED_AT = 3
_NAMED = re.compile(r"depth(?!ai)|disparity")
_COLOUR = re.compile(r"rgb(?!d)|colou?r")
# FFmpeg's formats of one channel with more than 8 bits.
_DEEP_FORMAT = re.compile(r"gray(9|1\d|f\d)|[yz]16")


@dataclass(frozen=True)
class Depth:
    """Why a feature is taken for depth.

    Attributes:
        why: In words.
        sure: Whether the dataset or the pictures say so; a name or a lone channel may mislead, and a person knows.
    """

    why: str
    sure: bool


def depth_features(source: SourceDataset) -> dict[str, Depth]:
    """The image and video features that are no colour cameras.

    Args:
        source: The dataset; its first pictures are looked at where it does not say.
    """
    found = {name: depth for name in source.cameras() if (depth := _depth(source, name)) is not None}
    colours = [name for name in source.cameras() if name not in found]
    # A camera that sees in grey is one, where there is no other; beside colour it is a sensor of something else.
    grey = [name for name in colours if _one_channel(source.features[name])]
    if len(grey) < len(colours):
        found |= {name: Depth("it has one channel beside cameras of three", sure=False) for name in grey}
    return found


def _depth(source: SourceDataset, name: str) -> Depth | None:
    info = source.features[name].get("info") or {}
    for key, value in info.items():
        if str(key).endswith("is_depth_map") and str(value).lower() in {"true", "1"}:
            return Depth(f"info.json: {key}", sure=True)
        if str(key).endswith("pix_fmt") and _DEEP_FORMAT.match(str(value).lower()):
            return Depth(f"info.json: {key} {value}", sure=True)
    if deep := _deep_picture(source, name):
        return Depth(f"its pictures are {deep}", sure=True)
    short = name.removeprefix(IMAGES).lower()
    return Depth("by its name", sure=False) if _NAMED.search(short) and not _COLOUR.search(short) else None


def _deep_picture(source: SourceDataset, name: str) -> str:
    """What the first picture is that can be read, where it has more than 8 bits of grey."""
    for where in itertools.islice(source.episodes(), _LOOKED_AT):
        try:
            stretch = where.videos.get(name)
            if stretch is not None:
                return deep_grey_video(file_inside(source.folder, stretch.path))
            if where.table is not None and source.features[name]["dtype"] == "image":
                table = file_inside(source.folder, where.table)
                first = StoredStills(source.folder, table, name, range(1), (1, 1)).payloads()
                return deep_still(next(first, b""))
        except (BadInput, *MALFORMED):
            continue  # each episode is judged when it is read
    return ""


def _one_channel(feature: dict[str, Any]) -> bool:
    shape = feature["shape"]
    return len(shape) == 2 or (len(shape) == 3 and 1 in {shape[0], shape[-1]})
