"""Channels of both kinds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from releases import Channel
from s3_server import s3_server


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """An S3 server's address; boto3's environment variables point at it."""
    with s3_server() as address:
        yield address


@pytest.fixture(params=["directory", "s3"])
def channel(request: pytest.FixtureRequest, tmp_path: Path) -> Channel:
    if request.param == "directory":
        return Channel(tmp_path, str(tmp_path / "channel"))
    import boto3

    request.getfixturevalue("s3")
    bucket = f"channel-{abs(hash(tmp_path)):x}"
    boto3.client("s3").create_bucket(Bucket=bucket)
    return Channel(tmp_path, f"s3://{bucket}/releases")
