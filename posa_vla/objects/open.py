"""Opens the store of objects at a location."""

from __future__ import annotations

from pathlib import Path

from posa_vla.errors import BadInput
from posa_vla.objects.contract import Objects
from posa_vla.objects.directory import DirectoryObjects


def open_objects(location: str) -> Objects:
    """The objects of a directory, or of `s3://BUCKET/PREFIX`.

    Raises:
        BadInput: The location is neither a directory nor an S3 address.
    """
    if location.startswith("s3://"):
        from posa_vla.objects.s3 import S3Objects  # its client takes half a second to import

        return S3Objects(location)
    if "://" in location:
        raise BadInput(f"{location!r}: expected a directory or s3://BUCKET/PREFIX")
    return DirectoryObjects(Path(location).expanduser().resolve())
