"""A dataset that lies elsewhere, at hand as a folder while it is taken in."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from posa_vla.console import progress
from posa_vla.errors import BadInput
from posa_vla.files import require_free_space, safe_join, sha256_bytes
from posa_vla.objects.contract import Objects, Stored
from posa_vla.objects.open import open_objects
from posa_vla.pipeline.steps.version import DATA_WAIT
from posa_vla.workspace import Workspace

# A copy that is older than its object by the store's clock, which may be off by so much, is fetched again (s).
_CLOCKS = 60.0


@contextmanager
def at_hand(workspace: Workspace, location: str) -> Iterator[Path]:
    """The dataset's folder; one in S3 is fetched first, and what a killed call has fetched is not fetched again.

    What was fetched goes when the block ends; until then no other ingestion fetches or removes anything.

    Args:
        workspace: Where it is fetched to.
        location: Folder or `s3://BUCKET/PREFIX`.

    Raises:
        BadInput: It is neither, or holds nothing, or the disk has no room.
        Busy: Another ingestion went on with what it fetched for too long.
        PosaError: S3 is away.
    """
    if not location.startswith("s3://"):
        if "://" in location:
            raise BadInput(f"{location!r}: expected a folder or s3://BUCKET/PREFIX")
        try:
            folder = Path(location).expanduser()
        except RuntimeError:
            raise BadInput(f"{location!r}: no home directory is known that ~ stands for; give the whole path") from None
        yield folder
        return
    remote = open_objects(location)
    stored = [item for item in remote.stored() if not item.path.endswith("/")]
    if not stored:
        raise BadInput(f"{location} holds nothing, expected a LeRobot dataset")
    folder = workspace.home / "incoming" / sha256_bytes(location.rstrip("/").encode())
    with workspace.lock("an ingestion from S3", "incoming.lock", wait=DATA_WAIT):
        require_free_space(workspace.home, 2 * sum(item.size for item in stored), "fetching the dataset")
        fetch_tree(remote, stored, folder / Path(location.rstrip("/")).name)
        yield folder / Path(location.rstrip("/")).name
        shutil.rmtree(folder, ignore_errors=True)


def fetch_tree(remote: Objects, stored: list[Stored], folder: Path) -> None:
    """Makes a folder hold just these objects as they are now; what is there already and still the same stays.

    Raises:
        BadInput: An object's name leads out of the folder.
        PosaError: One cannot be fetched.
    """
    places = {safe_join(folder, item.path): item for item in stored}
    for stranger in sorted(folder.rglob("*")):
        if stranger.is_file() and stranger not in places:
            stranger.unlink()
    with progress("fetch", sum(item.size for item in stored) >> 20, unit="MiB") as advance:
        fetched = 0
        for place, item in places.items():
            if not _is_current(place, item):
                remote.fetch(item.path, place)
            advance(((fetched + item.size) >> 20) - (fetched >> 20))
            fetched += item.size


def _is_current(place: Path, item: Stored) -> bool:
    if not place.is_file():
        return False
    found = place.stat()
    return found.st_size == item.size and found.st_mtime > item.modified + _CLOCKS
