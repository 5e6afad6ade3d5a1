"""Folders as objects: one suite over a directory and S3."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from s3_server import s3_server

from posa_vla.errors import PosaError
from posa_vla.objects.contract import Objects
from posa_vla.objects.directory import DirectoryObjects
from posa_vla.objects.open import open_objects
from posa_vla.objects.trees import get_tree, has_tree, put_tree


@pytest.fixture(params=["directory", "s3"])
def objects(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Objects]:
    if request.param == "directory":
        yield open_objects(str(tmp_path / "objects"))
        return
    with s3_server() as url:
        import boto3

        boto3.client("s3", endpoint_url=url).create_bucket(Bucket="bucket")
        yield open_objects(f"s3://bucket/{tmp_path.name}")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "folder"
    (folder / "deep").mkdir(parents=True)
    (folder / "one.bin").write_bytes(b"1" * 3_000_000)
    (folder / "deep" / "two.json").write_text("{}")
    return folder


def test_a_folder_comes_back_as_it_was(objects: Objects, folder: Path, tmp_path: Path) -> None:
    assert not has_tree(objects, "data/v1")
    put_tree(objects, folder, "data/v1")
    assert has_tree(objects, "data/v1")
    taken = get_tree(objects, "data/v1", tmp_path / "cache")
    assert {p.relative_to(taken).as_posix() for p in taken.rglob("*") if p.is_file()} == {"one.bin", "deep/two.json"}
    assert (taken / "one.bin").read_bytes() == b"1" * 3_000_000
    assert get_tree(objects, "data/v1", tmp_path / "cache") == taken
    assert objects.list("data/") == ["data/v1/deep/two.json", "data/v1/one.bin"]


def test_a_folder_without_its_manifest_is_not_there(objects: Objects, folder: Path, tmp_path: Path) -> None:
    put_tree(objects, folder, "data/v1")
    objects.remove("trees/data/")
    assert not has_tree(objects, "data/v1")
    with pytest.raises(PosaError, match="does not hold data/v1"):
        get_tree(objects, "data/v1", tmp_path / "cache")
    put_tree(objects, folder, "data/v1")
    assert has_tree(objects, "data/v1")


def test_a_removed_folder_is_gone_and_no_other(objects: Objects) -> None:
    for name in ("a/one", "a/two", "ab"):
        objects.put(name, b"")
    objects.remove("a/")
    assert objects.list() == ["ab"]
    with pytest.raises(ValueError, match="no folder"):
        objects.remove("a")


def test_what_was_changed_in_the_store_is_refused(folder: Path, tmp_path: Path) -> None:
    with s3_server() as url:
        import boto3

        boto3.client("s3", endpoint_url=url).create_bucket(Bucket="bucket")
        objects = open_objects("s3://bucket")
        put_tree(objects, folder, "v1")
        for damage in (b"2" + b"1" * 2_999_999, b"1"):
            objects.put("v1/one.bin", damage)
            with pytest.raises(PosaError, match=r"one\.bin is not what it was"):
                get_tree(objects, "v1", tmp_path / "cache")
        assert not list((tmp_path / "cache").iterdir()), "nothing half-taken is left"


def test_a_folder_at_its_place_is_not_copied(folder: Path, tmp_path: Path) -> None:
    objects = DirectoryObjects(tmp_path)
    before = (folder / "one.bin").stat()
    put_tree(objects, folder, "folder")
    assert get_tree(objects, "folder", tmp_path / "cache") == folder
    assert (folder / "one.bin").stat().st_ino == before.st_ino
    assert (folder / "one.bin").stat().st_nlink == 1
