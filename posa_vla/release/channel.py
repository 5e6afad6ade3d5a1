"""The robot's side of a release channel: a TUF client over a directory or S3."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from tuf.api.exceptions import (
    DownloadError,
    DownloadHTTPError,
    ExpiredMetadataError,
    LengthOrHashMismatchError,
    RepositoryError,
)
from tuf.api.serialization import DeserializationError
from tuf.ngclient import FetcherInterface, Updater, UpdaterConfig

from posa_vla.errors import BadInput, PosaError, Refused
from posa_vla.files import sync_tree
from posa_vla.json_reader import decode_json
from posa_vla.objects.contract import Objects
from posa_vla.objects.open import open_objects
from posa_vla.release.bundle import MANIFEST, parse_manifest
from posa_vla.release.keys import require_sound_root
from posa_vla.release.record import MAX_ENVELOPE

# What begins the names of the client's temporary files and folders, its own and TUF's: Python's default.
_DRAFT = tempfile.gettempprefix()
# Where a channel keeps its parts; the metadata file names are TUF's own.
METADATA, TARGETS = "metadata", "targets"
_TIMESTAMP = f"{METADATA}/timestamp.json"
_SCHEME = "objects://channel/"
_MAX_MANIFEST = 1 << 20


def record_path(target: str) -> str:
    """Path of a target's newest release record among the channel's targets."""
    return f"{target}/release.dsse.json"


def bundle_path(target: str, digest: str, name: str) -> str:
    """Path of a bundle's file among the channel's targets."""
    return f"{target}/bundles/{digest}/{name}"


class _ObjectsFetcher(FetcherInterface):
    """Lets the TUF client read objects instead of URLs."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    def _fetch(self, url: str) -> Iterator[bytes]:
        path = url.removeprefix(_SCHEME)
        pieces = self._objects.read(path)
        if pieces is None:
            raise DownloadHTTPError(f"{self._objects.location} has no {path}", 404)
        return pieces

    def download_bytes(self, url: str, max_length: int) -> bytes:
        """A metadata file, which is JSON that every reader understands in the same way."""
        data: bytes = super().download_bytes(url, max_length)
        name = url.removeprefix(f"{_SCHEME}{METADATA}/")
        try:
            if name.endswith("root.json"):
                require_sound_root(data, name)
            else:
                decode_json(data, name, limit=max_length)
        except BadInput as error:
            raise DeserializationError(str(error)) from None
        return data


class ChannelClient:
    """Takes from a channel what its signed and fresh metadata vouches for, and nothing else.

    Version numbers that were seen once are kept in `state`: an older state of the channel is refused from then on. One
    client at a time works on a `state`.
    """

    def __init__(self, location: str, state: Path, root: bytes) -> None:
        """Makes a client.

        Args:
            location: The channel: a directory or `s3://BUCKET/PREFIX`.
            state: Folder of this client.
            root: Root metadata that reached the robot out of band.
        """
        self._objects = open_objects(location)
        self._state = state
        self._root = root
        self._updater: Updater | None = None
        logging.getLogger("tuf").setLevel(logging.ERROR)

    def _refused(self, error: Exception) -> PosaError:
        where = f"release channel {self._objects.location}"
        if isinstance(error, ExpiredMetadataError):
            return Refused(
                f"{where}: its metadata has expired ({error}): nothing new is installed from it, what runs runs on; "
                f"the publisher signs anew with `posa promote --refresh` (this machine's clock says "
                f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC)"
            )
        if isinstance(error, DownloadError) and not isinstance(error, LengthOrHashMismatchError):
            return PosaError(f"{where} cannot be read: {error.__cause__ or error}")
        return Refused(f"{where}: what it holds does not verify: {error}")

    def latest(self, target: str) -> bytes | None:
        """The envelope of a target's newest release, None before the first; the channel's metadata is read anew.

        Raises:
            Refused: The metadata or the record is changed, old or expired.
            PosaError: The channel cannot be read.
        """
        self._state.mkdir(parents=True, exist_ok=True)
        self._discard_drafts()
        try:
            self._updater = Updater(
                str(self._state),
                f"{_SCHEME}{METADATA}/",
                target_base_url=f"{_SCHEME}{TARGETS}/",
                fetcher=_ObjectsFetcher(self._objects),
                config=UpdaterConfig(max_root_rotations=64),
                bootstrap=self._root,
            )
            self._updater.refresh()
            sync_tree(self._state)
        except (RepositoryError, DownloadError, OSError) as error:
            if self._nothing_published():
                return None
            raise self._refused(error) from error
        return self._take(record_path(target), MAX_ENVELOPE)

    def _discard_drafts(self) -> None:
        """Removes what killed updates left beside the metadata: nobody else works on the state of this client."""
        for draft in self._state.glob(f"{_DRAFT}*"):
            if draft.is_dir() and not draft.is_symlink():
                shutil.rmtree(draft, ignore_errors=True)
            else:
                draft.unlink(missing_ok=True)

    def _nothing_published(self) -> bool:
        """Whether the channel was made, and neither it nor this client has ever seen a timestamp."""
        made = self._objects.exists(f"{METADATA}/1.root.json")
        return made and not (self._state / "timestamp.json").exists() and not self._objects.exists(_TIMESTAMP)

    def download_bundle(self, target: str, digest: str, out: Path) -> None:
        """Writes the bundle of a digest to the new folder `out`; each file is checked while it is read.

        Raises:
            Refused: A file is not what signed metadata and digest say.
            PosaError: The channel cannot be read, or does not hold the bundle.
        """
        data = self._take(bundle_path(target, digest, MANIFEST), _MAX_MANIFEST)
        if data is None:
            raise Refused(f"release channel {self._objects.location}: no bundle {digest[:12]} for target {target}")
        manifest = parse_manifest(data, digest, f"release channel {self._objects.location}")
        out.mkdir(parents=True)
        (out / MANIFEST).write_bytes(data)
        for name, file in manifest.files.items():
            path = bundle_path(target, digest, name)
            info = self._known().get_targetinfo(path)
            if info is None or info.length != file.size:
                raise Refused(f"release channel {self._objects.location}: its metadata does not vouch for {path}")
            try:
                self._known().download_target(info, str(out / name))
            except (RepositoryError, DownloadError) as error:
                raise self._refused(error) from error

    def _known(self) -> Updater:
        if self._updater is None:
            raise PosaError("the channel's metadata has not been read: call latest() first")
        return self._updater

    def _take(self, path: str, limit: int) -> bytes | None:
        """A small file by its path, or None where the metadata names none."""
        info = self._known().get_targetinfo(path)
        if info is None:
            return None
        if info.length > limit:
            raise Refused(f"release channel: {path} has {info.length} bytes, expected at most {limit}")
        with tempfile.TemporaryDirectory(dir=self._state) as folder:
            place = Path(folder) / "file"
            try:
                self._known().download_target(info, str(place))
            except (RepositoryError, DownloadError) as error:
                raise self._refused(error) from error
            return place.read_bytes()
