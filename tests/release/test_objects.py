"""One contract over a directory and an S3 bucket."""

from __future__ import annotations

from pathlib import Path

import pytest
from releases import Channel

from posa_vla.errors import BadInput, PosaError
from posa_vla.objects import open_objects


def test_what_was_put_is_there(channel: Channel) -> None:
    objects = open_objects(channel.location)
    assert objects.get("a/b.json") is None
    assert objects.read("a/b.json") is None
    assert not objects.exists("a/b.json")
    assert objects.list() == []
    objects.put("a/b.json", b"1")
    objects.put("a/c.json", b"2" * 3_000_000)
    objects.put("a/b.json", b"3")
    assert objects.get("a/b.json") == b"3"
    pieces = objects.read("a/c.json")
    assert pieces is not None
    assert b"".join(pieces) == b"2" * 3_000_000
    assert objects.exists("a/c.json")
    assert objects.list() == ["a/b.json", "a/c.json"]
    assert objects.list("a/c") == ["a/c.json"]
    assert open_objects(channel.location).get("a/b.json") == b"3"


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
