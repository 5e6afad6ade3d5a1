"""One suite over channels in a directory and in S3; what can only be done to files is done to the directory."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from releases import TARGET, Channel, flip, make_bundle, make_record

from posa_vla.errors import PosaError, Refused
from posa_vla.files import sha256_tree
from posa_vla.objects.directory import DirectoryObjects
from posa_vla.objects.open import open_objects
from posa_vla.release import publisher as publishing
from posa_vla.release.bundle import verify_bundle
from posa_vla.release.channel import ChannelClient
from posa_vla.release.publisher import Publisher
from posa_vla.release.record import sign_record, verify


def client(channel: Channel, name: str = "robot") -> ChannelClient:
    return ChannelClient(channel.location, channel.folder / name, channel.publisher.root_bytes())


def take(robot: ChannelClient, digest: str, out: Path) -> None:
    assert robot.latest(TARGET) is not None
    robot.download_bundle(TARGET, digest, out)


@pytest.fixture
def local(tmp_path: Path) -> Channel:
    return Channel(tmp_path, str(tmp_path / "channel"))


def test_a_robot_takes_what_was_published(channel: Channel) -> None:
    robot = client(channel)
    assert robot.latest(TARGET) is None
    for release in (1, 2):
        bundle, envelope = channel.publish(release)
        assert robot.latest(TARGET) == envelope
        out = channel.folder / f"out-{release}"
        robot.download_bundle(TARGET, bundle.digest, out)
        verify_bundle(out, bundle.digest)
        assert verify(envelope, channel.trust).release == release
    assert channel.publisher.current(TARGET) == envelope
    assert robot.latest("another-target") is None


def test_publishing_twice_changes_nothing(channel: Channel) -> None:
    channel.publish(1)
    objects = open_objects(channel.location)
    before = {path: objects.get(path) for path in objects.list()}
    bundle = make_bundle(channel.folder, 1)
    envelope = channel.publisher.current(TARGET)
    assert envelope is not None
    channel.publisher.publish(TARGET, envelope, bundle)
    assert {path: objects.get(path) for path in objects.list()} == before


def test_targets_of_a_channel_do_not_disturb_each_other(channel: Channel) -> None:
    _, first = channel.publish(1)
    bundle = make_bundle(channel.folder, 7)
    other = sign_record(make_record(bundle.digest, target="other"), channel.publisher.record_signer)
    channel.publisher.publish("other", other, bundle)
    robot = client(channel)
    assert robot.latest(TARGET) == first
    assert robot.latest("other") == other


def test_an_older_state_of_the_channel_is_refused(local: Channel) -> None:
    local.publish(1)
    shutil.copytree(local.location, local.folder / "old")
    _, newest = local.publish(2)
    robot = client(local)
    assert robot.latest(TARGET) == newest
    shutil.rmtree(local.location)
    shutil.copytree(local.folder / "old", local.location)
    with pytest.raises(Refused, match="does not verify"):
        robot.latest(TARGET)


def test_an_old_snapshot_under_a_new_timestamp_is_refused(local: Channel) -> None:
    local.publish(1)
    metadata = Path(local.location) / "metadata"
    shutil.copy(metadata / "1.snapshot.json", local.folder / "old.json")
    local.publish(2)
    shutil.copy(local.folder / "old.json", metadata / "2.snapshot.json")
    with pytest.raises(Refused, match="does not verify"):
        client(local).latest(TARGET)


@pytest.mark.fault
def test_one_flipped_byte_of_any_object_is_refused(local: Channel) -> None:
    bundle, _ = local.publish(1)
    root = Path(local.location)
    paths = DirectoryObjects(root).list()
    assert len(paths) == 8  # root, targets, snapshot, timestamp; record, manifest, weights, config
    for number, path in enumerate(p for p in paths if not p.endswith("1.root.json")):
        original = (root / path).read_bytes()
        flip(root / path, len(original) // 2)
        robot = client(local, f"robot-{number}")
        with pytest.raises(Refused):
            take(robot, bundle.digest, local.folder / f"out-{number}")
        (root / path).write_bytes(original)


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets"])
def test_expired_metadata_is_refused_and_signed_anew_on_time(
    local: Channel, role: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(publishing.LIFETIMES, role, timedelta(seconds=-1))
    _, envelope = local.publish(1)
    with pytest.raises(Refused, match="expired"):
        client(local).latest(TARGET)
    monkeypatch.undo()
    assert local.publisher.refresh()
    assert client(local).latest(TARGET) == envelope
    assert not local.publisher.refresh()


def test_refresh_before_half_a_life_is_over_signs_nothing(local: Channel, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not local.publisher.refresh()
    local.publish(1)
    later = datetime.now(UTC) + publishing.LIFETIMES["timestamp"] * 0.6
    monkeypatch.setattr(publishing, "_now", lambda: later.replace(microsecond=0))
    assert local.publisher.refresh()


def test_a_channel_of_other_keys_is_neither_read_nor_written(local: Channel) -> None:
    local.publish(1)
    with pytest.raises(Refused, match="other keys"):
        Publisher(local.location, local.folder / "stranger")
    stranger = Channel(local.folder / "s", str(local.folder / "s" / "channel"))
    stranger.publish(1)
    robot = ChannelClient(stranger.location, local.folder / "robot", local.publisher.root_bytes())
    with pytest.raises(Refused, match="does not verify"):
        robot.latest(TARGET)


@pytest.mark.parametrize("then", ["refresh", "publish", "settle"])
def test_an_old_state_of_the_channel_is_put_right_and_never_signed_anew(local: Channel, then: str) -> None:
    local.publish(1)
    shutil.copytree(local.location, local.folder / "old")
    bundle, newest = local.publish(2)
    shutil.rmtree(local.location)
    shutil.copytree(local.folder / "old", local.location)
    if then == "refresh":
        local.publisher.refresh()
    elif then == "publish":
        other = sign_record(make_record(bundle.digest, target="other"), local.publisher.record_signer)
        local.publisher.publish("other", other, bundle)
    else:
        assert local.publisher.settle()
        assert not local.publisher.settle()
    local.publisher.publish(TARGET, newest, bundle)  # its files were lost as well
    assert client(local).latest(TARGET) == newest


def test_a_look_at_the_newest_release_writes_nothing(local: Channel) -> None:
    local.publish(1)
    shutil.copytree(local.location, local.folder / "old")
    _, newest = local.publish(2)
    for name in ("timestamp.json", "1.root.json"):
        shutil.copy(local.folder / "old" / "metadata" / name, Path(local.location) / "metadata" / name)
    before = sha256_tree(Path(local.location)), sha256_tree(local.folder / "keys")
    assert local.publisher.current(TARGET) == newest
    assert (sha256_tree(Path(local.location)), sha256_tree(local.folder / "keys")) == before
    assert local.publisher.settle()
    assert client(local).latest(TARGET) == newest


def test_a_publisher_whose_memory_is_lost_goes_on_with_the_channel(local: Channel) -> None:
    local.publish(1)
    shutil.rmtree(local.folder / "keys" / "channels")
    _, newest = local.publish(2)
    assert client(local).latest(TARGET) == newest


def test_a_publisher_builds_on_nothing_that_it_did_not_sign(local: Channel) -> None:
    local.publish(1)
    stranger = Channel(local.folder / "s", str(local.folder / "s" / "channel"))
    stranger.publish(5)
    shutil.copytree(Path(stranger.location) / "metadata", Path(local.location) / "metadata", dirs_exist_ok=True)
    shutil.copy(local.folder / "keys" / "root.json", Path(local.location) / "metadata" / "1.root.json")
    with pytest.raises(Refused, match="nothing is published"):
        local.publish(2)


def test_a_channel_that_cannot_be_reached_says_so(tmp_path: Path, channel: Channel) -> None:
    root = channel.publisher.root_bytes()
    nowhere = ChannelClient(str(tmp_path / "nowhere"), tmp_path / "robot", root)
    with pytest.raises(PosaError, match="nowhere"):
        nowhere.latest(TARGET)


def _publish_and_die(channel: Channel, writes: int) -> None:
    put, count = DirectoryObjects.put, 0

    def counted(self: DirectoryObjects, path: str, data: bytes) -> None:
        nonlocal count
        if count == writes:
            os.kill(os.getpid(), signal.SIGKILL)
        put(self, path, data)
        count += 1

    DirectoryObjects.put = counted  # type: ignore[method-assign]  # counts, then dies for real
    channel.publish(2)
    os._exit(0)  # a fork has not the threads that other tests left, and would wait for them at an orderly end


@pytest.mark.fault
def test_a_publisher_killed_before_any_write_leaves_the_old_release_or_the_new(local: Channel) -> None:
    _, old = local.publish(1)
    writes, changed, context = 0, 0, multiprocessing.get_context("fork")
    while True:
        process = context.Process(target=_publish_and_die, args=(local, writes))
        process.start()
        process.join(60)
        seen = client(local, f"robot-{writes}").latest(TARGET)
        local.publisher.settle()
        new = local.publisher.current(TARGET)
        assert client(local, f"robot-{writes}").latest(TARGET) == new  # what was cut off is finished
        assert seen in (old, new)
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL
        old, changed = new, changed + (new != old)
        writes += 1
    assert writes >= 4
    assert changed == 1
    bundle, _ = local.publish(3)
    robot = client(local)
    robot.latest(TARGET)
    robot.download_bundle(TARGET, bundle.digest, local.folder / "out")
