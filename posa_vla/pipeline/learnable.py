"""Whether anything can be learned from a dataset, before any of it is taken in."""

from __future__ import annotations

from collections.abc import Iterator

from posa_vla.dataset.shards.mixed_up import require_actions
from posa_vla.dataset.validation.findings import severity_of
from posa_vla.dataset.validation.image_rules import is_black
from posa_vla.episodes.episode import Episode
from posa_vla.episodes.foreign.reader import SourceReader
from posa_vla.episodes.media.images import StoredImages
from posa_vla.episodes.outside_files import MALFORMED
from posa_vla.errors import BadInput
from posa_vla.validation_params import ValidateParams

# Episodes whose pictures are looked at, spread evenly over the dataset.
_SEEN = 5


def require_learnable(reader: SourceReader, rules: ValidateParams) -> None:
    """Stops where whoever recorded a dataset has made a mistake that is in all of its episodes.

    What is wrong with single episodes is found later, and keeps these episodes aside.

    Args:
        reader: The dataset.
        rules: Where black pictures do not keep an episode aside, black cameras are taken in.

    Raises:
        BadInput: The actions are the states of the next frames, or a camera is black throughout.
    """
    reader = reader.afresh()
    require_actions(_episodes(reader), reader.embodiment)
    if severity_of(rules, "black") == "severe" and (dark := _black_cameras(reader)):
        raise BadInput(
            f"{reader.source.folder}: the pictures of {' and '.join(dark)} are black in all episodes that were looked "
            "at: mend the camera and record again, declare the robot without it (--embodiment FILE), or take black "
            "pictures in with --set validation.black.severity=warning"
        )


def _episodes(reader: SourceReader, *, spread: bool = False) -> Iterator[Episode]:
    """The episodes that can be read, or some of them; no picture is decoded."""
    places = reader.source.episodes()
    step = -(-len(places) // _SEEN) if spread else 1
    for where in places[:: max(step, 1)]:
        try:
            yield reader.episode(where)
        except (BadInput, *MALFORMED):
            continue  # ingestion says what is wrong with it


def _black_cameras(reader: SourceReader) -> list[str]:
    """Roles whose first and middle pictures are black in every episode that was looked at."""
    seen: dict[str, bool] = {}
    for episode in _episodes(reader, spread=True):
        for role, camera in episode.cameras.items():
            if not seen.get(role, True):
                continue
            try:
                first, images = next(iter(camera.images)), camera.images
                middle = images.middle() if isinstance(images, StoredImages) else images[len(images) // 2]
            except BadInput:
                continue
            seen[role] = is_black(first) and is_black(middle)
    return [role for role, black in seen.items() if black]
