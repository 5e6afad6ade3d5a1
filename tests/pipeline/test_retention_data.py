"""What `posa gc` takes of the data, and that it never takes what a version names."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import boto3
import pytest
from data_workspaces import copy_of
from s3_server import s3_server

from posa_vla.dataset.versions.checkout import checkout
from posa_vla.dataset.versions.clone import open_clone
from posa_vla.dataset.versions.history import list_versions
from posa_vla.dataset.versions.remote_owners import claim, leave_mark
from posa_vla.dataset.versions.verify import verify
from posa_vla.errors import PosaError
from posa_vla.files import sha256_tree, write_bytes
from posa_vla.objects.open import open_objects
from posa_vla.objects.s3 import S3Objects
from posa_vla.params import RetentionParams
from posa_vla.pipeline.retention import clean_up
from posa_vla.pipeline.retention_data import Item
from posa_vla.settings import Settings
from posa_vla.workspace import Workspace

pytestmark = pytest.mark.slow


@pytest.fixture
def workspace(two_versions_made, tmp_path, monkeypatch) -> Workspace:
    """Two versions, and what killed runs leave; all of it is old."""
    made = copy_of(two_versions_made, tmp_path)
    claim(made)  # a copy is not the repository that the remote knows
    for place in (made.dvc_cache, Path(made.dvc_remote)):
        write_bytes(place / "files/md5/ab/cdef", b"of a run that was killed")
    write_bytes(made.home / "incoming/0123/set/meta/info.json", b"{}")
    later = time.time() + 100 * 86_400
    monkeypatch.setattr("posa_vla.pipeline.retention_data.time.time", lambda: later)
    return made


def test_what_no_version_names_goes_and_every_version_stays(workspace):
    old, new = (version.record.version for version in list_versions(workspace))
    os.utime(workspace.data / old)  # as where a backup of it was restored: that makes it no newer
    os.utime(workspace.data / new, (1, 1))
    shown = clean_up(workspace, RetentionParams(), dry_run=True)
    assert {(item.store, item.name) for item in shown if not item.kept} == {
        ("prepared", old),
        ("dvc-cache", "files/md5/ab/cdef"),
        ("dvc-remote", "files/md5/ab/cdef"),
        ("incoming", "0123"),
    }
    assert (workspace.data / old).is_dir()
    assert clean_up(workspace, RetentionParams(), dry_run=False) == shown
    assert not (workspace.data / old).exists()
    assert (workspace.data / new).is_dir()
    assert not list((workspace.home / "incoming").iterdir())
    assert verify(workspace)["ok"]
    # What went is made again when it is wanted.
    checkout(workspace, "data-v1")
    assert verify(workspace, "data-v1")["ok"]
    assert [
        item
        for item in clean_up(workspace, RetentionParams(), dry_run=True)
        if item.store != "prepared" and not item.kept
    ] == []


def test_young_things_stay(workspace, monkeypatch):
    monkeypatch.undo()
    assert [item.store for item in clean_up(workspace, RetentionParams(), dry_run=True) if not item.kept] == []


def test_nothing_goes_where_it_cannot_be_told_what_is_needed(workspace):
    for place in (workspace.dvc_cache, Path(workspace.dvc_remote)):
        for listing in place.rglob("*.dir"):
            listing.chmod(0o644)
            listing.unlink()
    places = (workspace.data, workspace.dvc_cache, Path(workspace.dvc_remote), workspace.home / "incoming")
    before = [sorted(place.rglob("*")) for place in places]
    with pytest.raises(PosaError, match="in neither cache nor remote"):
        clean_up(workspace, RetentionParams(), dry_run=False)
    assert [sorted(place.rglob("*")) for place in places] == before


def goes(items: list[Item], store: str) -> set[str]:
    return {item.name for item in items if item.store == store and not item.kept}


def put_object(place: Path, content: bytes, suffix: str = "") -> str:
    """Brings content to where DVC keeps it; returns DVC's name for it."""
    digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
    write_bytes(place / f"files/md5/{digest[:2]}/{digest[2:]}{suffix}", content)
    return digest + suffix


def put_folder(place: Path, *files: bytes) -> list[str]:
    """Brings a folder to where DVC keeps it; returns the names of its files, and of its listing."""
    names = [put_object(place, content) for content in files]
    listing = [{"md5": name, "relpath": f"{number}.txt"} for number, name in enumerate(names)]
    return [*names, put_object(place, json.dumps(listing).encode(), ".dir")]


def as_path(name: str) -> str:
    return f"files/md5/{name[:2]}/{name[2:]}"


def newest_listing(place: Path) -> Path:
    return max(place.rglob("*.dir"), key=lambda path: path.stat().st_size)


def replace(path: Path, content: bytes) -> None:
    path.chmod(0o644)
    path.write_bytes(content)


def test_a_damaged_listing_in_the_cache_costs_no_object(workspace):
    listing = newest_listing(workspace.dvc_cache)
    others = "".join(path.read_text() for path in workspace.dvc_cache.rglob("*.dir") if path != listing)
    entries = json.loads(listing.read_bytes())
    only = next(entry for entry in entries if entry["md5"] not in others)
    only["md5"] = only["md5"][::-1]
    replace(listing, json.dumps(entries).encode())
    done = clean_up(workspace, RetentionParams(), dry_run=False)
    assert goes(done, "dvc-remote") == goes(done, "dvc-cache") == {"files/md5/ab/cdef"}
    assert verify(workspace, repair=True)["repaired"] == [str(listing)]
    assert verify(workspace)["ok"]


def test_listings_damaged_in_both_places_are_said_and_nothing_goes(workspace):
    for place in (workspace.dvc_cache, Path(workspace.dvc_remote)):
        listing = newest_listing(place)
        replace(listing, listing.read_bytes()[:-20])
    places = (workspace.data, workspace.dvc_cache, Path(workspace.dvc_remote), workspace.home / "incoming")
    before = [sha256_tree(place) for place in places]
    with pytest.raises(PosaError, match=r"the listing of data/episodes\.dvc in commit .* is missing or damaged"):
        clean_up(workspace, RetentionParams(), dry_run=True)
    with pytest.raises(PosaError, match="nothing was removed"):
        clean_up(workspace, RetentionParams(), dry_run=False)
    assert [sha256_tree(place) for place in places] == before


def test_what_a_persons_branch_names_stays(workspace, tmp_path):
    remote = Path(workspace.dvc_remote)
    folder = put_folder(remote, b"mine", b"mine too")
    alone = put_object(remote, b"one file")
    mine = tmp_path / "mine"
    git = ["git", "-C", str(mine), "-c", "user.name=p", "-c", "user.email=p@localhost"]
    subprocess.run(["git", "clone", "-q", str(workspace.repository), str(mine)], check=True)
    write_bytes(mine / "extra/täglich.dvc", f"outs:\n- md5: {folder[-1]}\n  hash: md5\n  path: extra\n".encode())
    write_bytes(mine / "work/dvc.lock", f"stages:\n  s:\n    outs:\n    - md5: '{alone}'\n".encode())
    subprocess.run([*git, "add", "--all"], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "Mine"], check=True)
    # DVC's experiments are neither branches nor tags.
    subprocess.run([*git, "push", "-q", "origin", "HEAD:refs/exps/ab/mine"], check=True)
    done = clean_up(workspace, RetentionParams(), dry_run=False)
    assert goes(done, "dvc-remote") == {"files/md5/ab/cdef"}
    assert all((remote / as_path(name)).is_file() for name in [*folder, alone])
    # Its files cannot be told without the listing.
    (remote / as_path(folder[-1])).unlink()
    with pytest.raises(PosaError, match=r"täglich\.dvc in commit"):
        clean_up(workspace, RetentionParams(), dry_run=False)


def test_a_folder_goes_with_its_listing_first_and_a_young_one_keeps_its_files(workspace):
    remote = Path(workspace.dvc_remote)
    old, young = put_folder(remote, b"old", b"old too"), put_folder(remote, b"kept", b"kept too")
    later = time.time()  # the clean-up's own clock, see the fixture
    os.utime(remote / as_path(young[-1]), (later, later))
    shown = clean_up(workspace, RetentionParams(), dry_run=True)
    assert goes(shown, "dvc-remote") == {"files/md5/ab/cdef", *map(as_path, old)}
    order = [item.name for item in shown if item.store == "dvc-remote"]
    assert order.index(as_path(old[-1])) < min(order.index(as_path(name)) for name in old[:-1])


def test_a_remote_that_another_repository_uses_is_left_alone(workspace, tmp_path):
    (tmp_path / "other").mkdir()
    subprocess.run(["cp", "-a", str(workspace.home), str(tmp_path / "other/home")], check=True)
    other = Workspace.open(Settings(home=tmp_path / "other/home", dvc_remote=workspace.dvc_remote))
    with open_clone(other) as clone:
        clone.push()
    for one in (workspace, other):
        done = clean_up(one, RetentionParams(), dry_run=False)
        assert goes(done, "dvc-remote") == set()
        assert goes(done, "dvc-cache") == {"files/md5/ab/cdef"}
    kept = {item.kept for item in done if item.store == "dvc-remote"}
    assert any("the remote is not this repository's alone" in reason for reason in kept)
    # A person who knows better says so.
    assert goes(clean_up(workspace, RetentionParams(), dry_run=False, sole_owner=True), "dvc-remote")
    assert goes(clean_up(workspace, RetentionParams(), dry_run=True), "dvc-remote") == set()
    assert verify(workspace)["ok"]


def test_a_history_that_was_lost_and_begun_anew_takes_nothing_from_the_remote(workspace):
    shutil.rmtree(workspace.repository)
    with open_clone(workspace):
        pass
    assert goes(clean_up(workspace, RetentionParams(), dry_run=True), "dvc-remote") == set()
    leave_mark(workspace)
    assert goes(clean_up(workspace, RetentionParams(), dry_run=True), "dvc-remote") == set()


def test_objects_older_than_the_first_mark_may_be_anybodys(workspace):
    shutil.rmtree(Path(workspace.dvc_remote) / "posa")
    assert goes(clean_up(workspace, RetentionParams(), dry_run=True), "dvc-remote") == set()
    leave_mark(workspace)
    assert goes(clean_up(workspace, RetentionParams(), dry_run=True), "dvc-remote") == set()
    assert goes(clean_up(workspace, RetentionParams(), dry_run=True, sole_owner=True), "dvc-remote")


def _die_at_object(workspace: Workspace, removals: int) -> None:
    delete, count = S3Objects.delete, 0

    def counted(self: S3Objects, path: str) -> None:
        nonlocal count
        if count == removals:
            os.kill(os.getpid(), signal.SIGKILL)
        count += 1
        delete(self, path)

    S3Objects.delete = counted  # type: ignore[method-assign]  # counts, then dies for real
    clean_up(workspace, RetentionParams(), dry_run=False)
    os._exit(0)


@pytest.mark.fault
def test_killed_while_it_clears_a_remote_in_s3_no_folder_looks_whole_that_is_not(workspace, tmp_path):
    gone = put_folder(Path(workspace.dvc_remote), b"killed", b"killed too")
    with s3_server():
        client = boto3.client("s3")
        client.create_bucket(Bucket="bucket")
        for path in Path(workspace.dvc_remote).rglob("files/md5/*/*"):
            client.upload_file(str(path), "bucket", f"dvc/{path.relative_to(workspace.dvc_remote).as_posix()}")
        workspace = Workspace.open(Settings(home=workspace.home, dvc_remote="s3://bucket/dvc"))
        claim(workspace)
        before = set(open_objects("s3://bucket/dvc").list())
        process = multiprocessing.get_context("fork").Process(target=_die_at_object, args=(workspace, 2))
        process.start()
        process.join(60)
        assert process.exitcode == -signal.SIGKILL
        left = before - set(open_objects("s3://bucket/dvc").list())
        assert len(left) == 2
        assert as_path(gone[-1]) in left
        done = clean_up(workspace, RetentionParams(), dry_run=False)
        assert left | goes(done, "dvc-remote") == {"files/md5/ab/cdef", *map(as_path, gone)}
        assert verify(workspace)["ok"]


def _die_at(workspace: Workspace, removals: int) -> None:
    rmtree, count = shutil.rmtree, 0

    def counted(path: Path, ignore_errors: bool = False) -> None:
        nonlocal count
        if Path(path).name.startswith(".removed-"):
            if count == removals:
                os.kill(os.getpid(), signal.SIGKILL)
            count += 1
        rmtree(path, ignore_errors=ignore_errors)

    shutil.rmtree = counted  # type: ignore[assignment]  # counts, then dies for real
    clean_up(workspace, RetentionParams(), dry_run=False)
    os._exit(0)


@pytest.mark.fault
def test_killed_at_a_removal_nothing_is_half_there(workspace):
    process = multiprocessing.get_context("fork").Process(target=_die_at, args=(workspace, 0))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    left = [folder for folder in workspace.data.iterdir() if not folder.name.startswith(".removed-")]
    assert all((folder / "manifest.json").is_file() for folder in left)
    clean_up(workspace, RetentionParams(), dry_run=False)
    assert not list(workspace.home.rglob(".removed-*"))
    assert verify(workspace)["ok"]
