"""One contract over a directory and an S3 bucket."""

from __future__ import annotations

from pathlib import Path

import pytest
from releases import Channel

from posa_vla.errors import BadInput, PosaError
from posa_vla.objects.contract import Objects
from posa_vla.objects.open import open_objects
from posa_vla.testing import ObjectsContract


class TestObjects(ObjectsContract):
    @pytest.fixture
    def objects(self, channel: Channel) -> Objects:
        return open_objects(channel.location)


def test_a_path_stays_inside_a_directory(tmp_path: Path) -> None:
    objects = open_objects(str(tmp_path / "channel"))
    for path in ("../out", "/etc/passwd", "a/../../b"):
        with pytest.raises(PosaError, match="leaves"):
            objects.put(path, b"")
        with pytest.raises(PosaError, match="leaves"):
            objects.get(path)


def test_a_location_of_another_kind_is_named() -> None:
    for bad in ("ftp://host/x", "s3://"):
        with pytest.raises(BadInput, match="s3://BUCKET/PREFIX"):
            open_objects(bad)


def test_a_bucket_that_is_not_there_says_so(s3: str) -> None:
    objects = open_objects("s3://no-such-bucket/x")
    with pytest.raises(PosaError, match="no-such-bucket"):
        objects.put("a", b"")
