"""Objects in an S3 bucket."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import boto3
from boto3.exceptions import S3UploadFailedError
from botocore.exceptions import BotoCoreError, ClientError

from posa_vla.errors import BadInput, PosaError
from posa_vla.objects.contract import _PIECE, Stored, _fetch

_MISSING = {"404", "NoSuchKey", "NotFound"}


class S3Objects:
    """Objects below a prefix of an S3 bucket; credentials and endpoint come from boto3's own settings."""

    def __init__(self, location: str) -> None:
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
        try:
            yield from body.iter_chunks(_PIECE)
        except (BotoCoreError, OSError) as error:
            raise self._failed(path, error) from error

    def exists(self, path: str) -> bool:
        """See `Objects.exists`."""
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
        try:
            self._client.delete_object(Bucket=self._bucket, Key=self._prefix + path)
        except (BotoCoreError, ClientError) as error:
            raise self._failed(path, error) from error

    def put_file(self, path: str, source: Path) -> None:
        """See `Objects.put_file`; large files go up in parts."""
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
