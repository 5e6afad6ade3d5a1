"""A tree of objects in a directory or in an S3 bucket: one face, chosen by the location's spelling."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlparse

from posa_vla.errors import BadInput, PosaError
from posa_vla.files import copy_whole, link_or_copy, safe_join, sync_folder, write_bytes, write_pieces

_MISSING = {"404", "NoSuchKey", "NotFound"}
# What the name of a folder that is being removed begins with.
REMOVED = ".removed-"
# What a reader holds in memory at once (bytes).
_PIECE = 1 << 20


@dataclass(frozen=True)
class Stored:
    """An object as the store lists it.

    Attributes:
        path: Relative, POSIX.
        size: Bytes.
        modified: When it was last written (POSIX seconds, the store's clock).
    """

    path: str
    size: int
    modified: float


class Objects(Protocol):
    """Objects by relative POSIX path; each appears whole."""

    location: str

    def put(self, path: str, data: bytes) -> None:
        """Writes an object, replacing an older one as a whole."""
        ...

    def get(self, path: str) -> bytes | None:
        """Reads an object; None where there is none."""
        ...

    def read(self, path: str) -> Iterator[bytes] | None:
        """An object in pieces; None where there is none."""
        ...

    def exists(self, path: str) -> bool:
        """Whether there is an object of this path."""
        ...

    def list(self, prefix: str = "") -> list[str]:
        """Sorted paths that begin with `prefix`."""
        ...

    def stored(self, prefix: str = "") -> Iterator[Stored]:
        """The same objects as `list`, in any order, with sizes and times."""
        ...

    def delete(self, path: str) -> None:
        """Removes one object; nothing where there is none."""
        ...

    def put_file(self, path: str, source: Path) -> None:
        """Makes a file that never changes again an object, without holding it in memory."""
        ...

    def put_copy(self, path: str, source: Path) -> None:
        """As `put_file`, but with bytes of its own: what damages the file leaves the object as it is."""
        ...

    def fetch(self, path: str, target: Path) -> None:
        """Writes an object to a file, which appears whole, without holding it in memory.

        Raises:
            PosaError: There is no such object.
        """
        ...

    def remove(self, prefix: str) -> None:
        """Removes every object whose path begins with `prefix`, a folder's name with its slash."""
        ...

    def place(self, path: str) -> Path | None:
        """Where on this machine an object or folder lies, or would lie; None for a store elsewhere."""
        ...


class DirectoryObjects:
    """Objects as files below a folder."""

    def __init__(self, folder: Path) -> None:
        self.location = str(folder)
        self._folder = folder

    def put(self, path: str, data: bytes) -> None:
        """See `Objects.put`; the file is on the disk when this returns."""
        write_bytes(safe_join(self._folder, path), data)

    def get(self, path: str) -> bytes | None:
        """See `Objects.get`."""
        pieces = self.read(path)
        return None if pieces is None else b"".join(pieces)

    def read(self, path: str) -> Iterator[bytes] | None:
        """See `Objects.read`."""
        place = safe_join(self._folder, path)
        return _pieces(place) if place.is_file() else None

    def exists(self, path: str) -> bool:
        """See `Objects.exists`."""
        return safe_join(self._folder, path).is_file()

    def list(self, prefix: str = "") -> list[str]:
        """See `Objects.list`; files that are being written are not there yet."""
        return sorted(found.path for found in self.stored(prefix))

    def stored(self, prefix: str = "") -> Iterator[Stored]:
        """See `Objects.stored`."""
        for file in (self._folder / prefix.rpartition("/")[0]).rglob("*"):
            path = file.relative_to(self._folder).as_posix()
            if path.startswith(prefix) and file.is_file() and not file.name.startswith("."):
                found = file.stat()
                yield Stored(path, found.st_size, found.st_mtime)

    def delete(self, path: str) -> None:
        """See `Objects.delete`."""
        self.place(path).unlink(missing_ok=True)

    def put_file(self, path: str, source: Path) -> None:
        """See `Objects.put_file`: a link where the file system has them, a copy elsewhere."""
        place = self.place(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        draft = place.with_name(f".{place.name}.{os.getpid()}")
        draft.unlink(missing_ok=True)
        try:
            link_or_copy(source, draft)
            os.replace(draft, place)
        finally:
            draft.unlink(missing_ok=True)
        sync_folder(place.parent)

    def put_copy(self, path: str, source: Path) -> None:
        """See `Objects.put_copy`."""
        copy_whole(source, self.place(path))

    def fetch(self, path: str, target: Path) -> None:
        """See `Objects.fetch`."""
        _fetch(self.location, path, self.read(path), target)

    def remove(self, prefix: str) -> None:
        """See `Objects.remove`."""
        if not prefix.endswith("/"):
            raise ValueError(f"prefix {prefix!r} names no folder: expected a slash at its end")
        place = self.place(prefix)
        if not place.is_dir():
            return
        # Gone as a whole: a kill in between leaves nothing that looks like the folder.
        gone = place.with_name(f"{REMOVED}{place.name}")
        shutil.rmtree(gone, ignore_errors=True)
        os.replace(place, gone)
        shutil.rmtree(gone, ignore_errors=True)

    def place(self, path: str) -> Path:
        """See `Objects.place`."""
        return safe_join(self._folder, path)


def _fetch(location: str, path: str, pieces: Iterator[bytes] | None, target: Path) -> None:
    if pieces is None:
        raise PosaError(f"{location} has no object {path}")
    write_pieces(target, pieces)


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            yield piece


class S3Objects:
    """Objects below a prefix of an S3 bucket; credentials and endpoint come from boto3's own settings."""

    def __init__(self, location: str) -> None:
        import boto3

        parts = urlparse(location)
        if not parts.netloc:
            raise BadInput(f"{location!r} names no bucket: expected s3://BUCKET/PREFIX")
        self.location = location
        self._bucket = parts.netloc
        self._prefix = parts.path.strip("/") + "/" if parts.path.strip("/") else ""
        self._client: Any = boto3.client("s3")

    def _failed(self, path: str, error: Exception) -> PosaError:
        return PosaError(f"{self.location}, object {path}: {error}")

    def put(self, path: str, data: bytes) -> None:
        """See `Objects.put`; S3 shows an object as a whole or not at all."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            self._client.put_object(Bucket=self._bucket, Key=self._prefix + path, Body=data)
        except (BotoCoreError, ClientError) as error:
            raise self._failed(path, error) from error

    def get(self, path: str) -> bytes | None:
        """See `Objects.get`."""
        pieces = self.read(path)
        return None if pieces is None else b"".join(pieces)

    def read(self, path: str) -> Iterator[bytes] | None:
        """See `Objects.read`."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            answer = self._client.get_object(Bucket=self._bucket, Key=self._prefix + path)
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") in _MISSING:
                return None
            raise self._failed(path, error) from error
        except BotoCoreError as error:
            raise self._failed(path, error) from error
        return self._pieces(path, answer["Body"])

    def _pieces(self, path: str, body: Any) -> Iterator[bytes]:
        from botocore.exceptions import BotoCoreError

        try:
            yield from body.iter_chunks(_PIECE)
        except (BotoCoreError, OSError) as error:
            raise self._failed(path, error) from error

    def exists(self, path: str) -> bool:
        """See `Objects.exists`."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            self._client.head_object(Bucket=self._bucket, Key=self._prefix + path)
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") in _MISSING:
                return False
            raise self._failed(path, error) from error
        except BotoCoreError as error:
            raise self._failed(path, error) from error
        return True

    def list(self, prefix: str = "") -> list[str]:
        """See `Objects.list`."""
        return sorted(found.path for found in self.stored(prefix))

    def stored(self, prefix: str = "") -> Iterator[Stored]:
        """See `Objects.stored`."""
        from botocore.exceptions import BotoCoreError, ClientError

        pages = self._client.get_paginator("list_objects_v2")
        try:
            for page in pages.paginate(Bucket=self._bucket, Prefix=self._prefix + prefix):
                for item in page.get("Contents", []):
                    path = item["Key"][len(self._prefix) :]
                    yield Stored(path, item["Size"], item["LastModified"].timestamp())
        except (BotoCoreError, ClientError) as error:
            raise self._failed(prefix, error) from error

    def delete(self, path: str) -> None:
        """See `Objects.delete`."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            self._client.delete_object(Bucket=self._bucket, Key=self._prefix + path)
        except (BotoCoreError, ClientError) as error:
            raise self._failed(path, error) from error

    def put_file(self, path: str, source: Path) -> None:
        """See `Objects.put_file`; large files go up in parts."""
        from boto3.exceptions import S3UploadFailedError
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            self._client.upload_file(str(source), self._bucket, self._prefix + path)
        except (BotoCoreError, ClientError, S3UploadFailedError) as error:
            raise self._failed(path, error) from error

    def put_copy(self, path: str, source: Path) -> None:
        """See `Objects.put_copy`: nothing in S3 shares bytes with a file here."""
        self.put_file(path, source)

    def fetch(self, path: str, target: Path) -> None:
        """See `Objects.fetch`."""
        _fetch(self.location, path, self.read(path), target)

    def remove(self, prefix: str) -> None:
        """See `Objects.remove`."""
        if not prefix.endswith("/"):
            raise ValueError(f"prefix {prefix!r} names no folder: expected a slash at its end")
        for path in self.list(prefix):
            self.delete(path)

    def place(self, path: str) -> None:
        """See `Objects.place`."""


def open_objects(location: str) -> Objects:
    """The objects of a directory, or of `s3://BUCKET/PREFIX`.

    Raises:
        BadInput: The location is neither.
    """
    if location.startswith("s3://"):
        return S3Objects(location)
    if "://" in location:
        raise BadInput(f"{location!r}: expected a directory or s3://BUCKET/PREFIX")
    return DirectoryObjects(Path(location).expanduser().resolve())
