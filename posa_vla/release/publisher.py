"""The publisher's side of a release channel: signs and writes its TUF metadata, in an order that a kill cannot hurt."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from securesystemslib.signer import CryptoSigner
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp
from tuf.api.serialization.json import JSONSerializer

from posa_vla.errors import BadInput, PosaError, Refused
from posa_vla.files import new_folder, sha256_bytes, write_bytes
from posa_vla.json_reader import decode_json
from posa_vla.objects.contract import Objects
from posa_vla.objects.directory import DirectoryObjects
from posa_vla.objects.open import open_objects
from posa_vla.release.bundle import MANIFEST, Bundle, parse_manifest, verify_bundle
from posa_vla.release.channel import METADATA, TARGETS, bundle_path, record_path
from posa_vla.release.keys import LOST, load_or_create_keys, public_hex

# How long a robot believes each kind of metadata: a frozen channel is noticed after the shortest of them.
LIFETIMES = {
    "root": timedelta(days=365),
    "targets": timedelta(days=90),
    "snapshot": timedelta(days=7),
    "timestamp": timedelta(days=1),
}
_ROOT = f"{METADATA}/1.root.json"


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


_State = tuple[Timestamp, Snapshot, Targets]


def _copy(state: _State, source: Objects, target: Objects) -> None:
    """Copies metadata in the order in which a kill cannot hurt: what makes it count comes last."""
    timestamp, snapshot, _ = state
    names = [
        f"{snapshot.meta['targets.json'].version}.targets.json",
        f"{timestamp.snapshot_meta.version}.snapshot.json",
    ]
    for name in [*names, "timestamp.json"]:
        data = source.get(f"{METADATA}/{name}")
        if data is None:
            raise PosaError(f"{source.location} has lost {name}: restore it")
        target.put(f"{METADATA}/{name}", data)


class Publisher:
    """Signs a channel's metadata with the keys of a workspace.

    The state that was signed last is kept beside the keys, and put back on a channel that shows less: whoever can
    only write to the channel can neither have files vouched for nor an old state signed anew. A state that the memory
    does not know is verified with the keys before anything is built on it.
    """

    def __init__(self, location: str, keys: Path, *, begun: bool = False) -> None:
        """Opens a channel; an empty one gets its root metadata, whose copy beside the keys is what robots are handed.

        Args:
            location: A directory or `s3://BUCKET/PREFIX`.
            keys: Folder of the publisher's private keys; made where it is missing.
            begun: Whether releases are known: then nothing that is missing is made anew.

        Raises:
            BadInput: A key is lost or open to others.
            Refused: The channel was made with other keys, or the root metadata are lost.
        """
        self._objects = open_objects(location)
        self._root_file = keys / "root.json"
        if not self._root_file.exists():
            self._require_first(begun)
        self._signers = load_or_create_keys(keys, begun=begun or self._root_file.exists())
        memory = keys / "channels" / sha256_bytes(location.encode())[:16]
        self._memory: Objects = DirectoryObjects(memory)
        self._root = self._open_root()
        if not memory.exists():
            self._recall(memory)

    def _require_first(self, begun: bool) -> None:
        """Stops before keys are made for a channel or for releases that have some."""
        if self._objects.exists(_ROOT):
            raise Refused(
                f"release channel {self._objects.location} was made with other keys: use those "
                f"(folder {self._root_file.parent}), or another channel (POSA_CHANNEL)"
            )
        if begun:
            raise Refused(
                f"{self._root_file} is lost, the root that robots trust: every folder `trust` that robots were handed "
                f"holds a copy of it; {LOST}"
            )

    def _open_root(self) -> Metadata[Root]:
        data = self._root_file.read_bytes() if self._root_file.exists() else None
        if data is None:
            root = Root(expires=_now() + LIFETIMES["root"], consistent_snapshot=True)
            for role in LIFETIMES:
                root.add_key(self._signers[role].public_key, role)
            data = self._sign(Metadata(root), "root")
            write_bytes(self._root_file, data)
        if self._objects.get(_ROOT) != data:
            if self._objects.exists(_ROOT):
                raise Refused(
                    f"release channel {self._objects.location} has another root than {self._root_file}: it was made "
                    "with other keys, or changed; use another channel (POSA_CHANNEL), or restore it"
                )
            self._objects.put(_ROOT, data)
        return Metadata[Root].from_bytes(data)

    def _recall(self, memory: Path) -> None:
        """Takes over what is remembered of this channel under the place that it had before it was moved.

        The channel's snapshot tells which memory is its own: the keys never sign the same snapshot for two channels.
        """
        timestamp = self._read(self._objects, "timestamp", "timestamp.json")
        if timestamp is None:
            return
        name = f"{METADATA}/{timestamp.signed.snapshot_meta.version}.snapshot.json"
        shown = self._objects.get(name)
        for other in sorted(memory.parent.glob("*")):
            if shown is not None and DirectoryObjects(other).get(name) == shown:
                with new_folder(memory) as draft:
                    shutil.copytree(other, draft, dirs_exist_ok=True)
                return

    def root_bytes(self) -> bytes:
        """The root metadata that robots start from; it reaches them out of band."""
        return self._root_file.read_bytes()

    def publisher_key(self) -> str:
        """Public key (hex) that signs release records."""
        return public_hex(self._signers["publisher"])

    @property
    def record_signer(self) -> CryptoSigner:
        """Signs release records."""
        return self._signers["publisher"]

    def _sign(self, metadata: Metadata[Any], role: str) -> bytes:
        metadata.sign(self._signers[role])
        return metadata.to_bytes(JSONSerializer(compact=False))

    def _read(self, objects: Objects, role: str, name: str) -> Metadata[Any] | None:
        data = objects.get(f"{METADATA}/{name}")
        if data is None:
            return None
        try:
            decode_json(data, name)
            metadata: Metadata[Any] = Metadata.from_bytes(data)
            self._root.signed.verify_delegate(role, metadata.signed_bytes, metadata.signatures)
        except (BadInput, RepositoryError, ValueError) as error:
            raise Refused(
                f"release channel {objects.location}: {name} does not verify with this workspace's keys "
                f"({error}): nothing is published on top of it; restore the channel"
            ) from None
        return metadata

    def _state(self, objects: Objects) -> _State | None:
        timestamp = self._read(objects, "timestamp", "timestamp.json")
        if timestamp is None:
            return None
        snapshot = self._read(objects, "snapshot", f"{timestamp.signed.snapshot_meta.version}.snapshot.json")
        version = None if snapshot is None else snapshot.signed.meta["targets.json"].version
        targets = self._read(objects, "targets", f"{version}.targets.json")
        if snapshot is None or targets is None:
            raise PosaError(
                f"release channel {objects.location}: timestamp.json names metadata that is not there: restore it"
            )
        return timestamp.signed, snapshot.signed, targets.signed

    def _newest(self) -> tuple[_State | None, Objects | None]:
        """The newer of what is remembered and what the channel shows, and the one of the two that shows less."""
        mine, theirs = self._state(self._memory), self._state(self._objects)
        if mine is not None and (theirs is None or theirs[0].version < mine[0].version):
            return mine, self._objects
        if theirs is not None and (mine is None or mine[0].version < theirs[0].version):
            return theirs, self._memory
        return theirs, None

    def settle(self) -> bool:
        """Makes channel and memory show the newer of their states.

        Returns:
            Whether the channel showed less than was signed, and was put back.

        Raises:
            Refused: A state of the channel does not verify.
        """
        return self._settled()[1]

    def _settled(self) -> tuple[_State | None, bool]:
        newest, behind = self._newest()
        if newest is not None and behind is not None:
            _copy(newest, self._memory if behind is self._objects else self._objects, behind)
        return newest, behind is self._objects

    def current(self, target: str) -> bytes | None:
        """The envelope of a target's newest release as it was signed, or None; nothing is written (see `settle`).

        Raises:
            Refused: A state of the channel does not verify.
        """
        found, _ = self._newest()
        file = found[2].targets.get(record_path(target)) if found is not None else None
        return None if file is None else self._objects.get(self._place(file))

    def published(self, target: str, at_hand: Iterable[bytes] = ()) -> list[bytes]:
        """The envelopes of a target that this publisher remembers to have published, oldest first.

        They are named by targets metadata that were kept beside the keys when they were signed. One that the channel
        no longer holds is left out.

        Args:
            target: Deployment target.
            at_hand: Envelopes that need not be asked of the channel.

        Raises:
            Refused: What is remembered does not verify, or the channel holds something else under an envelope's name.
        """
        numbers = [name.split("/")[-1].split(".")[0] for name in self._memory.list(f"{METADATA}/")]
        known = {sha256_bytes(envelope): envelope for envelope in at_hand}
        found: dict[str, bytes] = {}
        for number in sorted(int(number) for number in set(numbers) if number.isdecimal()):
            targets = self._read(self._memory, "targets", f"{number}.targets.json")
            file = None if targets is None else targets.signed.targets.get(record_path(target))
            if file is None or file.hashes["sha256"] in found:
                continue
            envelope = known.get(file.hashes["sha256"]) or self._objects.get(self._place(file))
            if envelope is not None and sha256_bytes(envelope) != file.hashes["sha256"]:
                raise Refused(f"release channel {self._objects.location}: {self._place(file)} was changed: restore it")
            if envelope is not None:
                found[file.hashes["sha256"]] = envelope
        return list(found.values())

    @staticmethod
    def _place(file: TargetFile) -> str:
        folder, _, name = file.path.rpartition("/")
        return f"{TARGETS}/{folder}/{file.hashes['sha256']}.{name}"

    def _put(self, path: str, data: bytes) -> TargetFile:
        file = TargetFile.from_data(path, data, ["sha256"])
        place = self._place(file)
        if self._objects.get(place) != data:
            self._objects.put(place, data)
        return file

    def fetch_bundle(self, target: str, digest: str, folder: Path) -> None:
        """Puts a bundle that was once published for a target into an empty folder, every byte verified.

        Raises:
            PosaError: The channel does not hold the whole bundle.
            Refused: What it holds is another one.
        """
        place = f"{TARGETS}/{bundle_path(target, digest, f'{digest}.{MANIFEST}')}"
        data = self._objects.get(place)
        if data is None:
            raise PosaError(f"release channel {self._objects.location} does not hold bundle {digest[:12]}")
        for name, file in parse_manifest(data, digest, place).files.items():
            path = f"{TARGETS}/{bundle_path(target, digest, f'{file.sha256}.{name}')}"
            self._objects.fetch(path, folder / name)
        write_bytes(folder / MANIFEST, data)
        verify_bundle(folder, digest)

    def publish(self, target: str, envelope: bytes, bundle: Bundle) -> None:
        """Makes a record and its bundle what the target's robots may run; twice the same changes nothing.

        Files first, then, remembered here and then shown there, targets, snapshot and last timestamp: until that one is
        on the channel, robots see it as it was.

        Raises:
            Refused: The bundle is not what its digest says, or the channel does not verify.
        """
        verify_bundle(bundle.folder, bundle.digest)
        names = sorted(path.name for path in bundle.folder.iterdir())
        files = [
            self._put(bundle_path(target, bundle.digest, name), (bundle.folder / name).read_bytes()) for name in names
        ]
        files.append(self._put(record_path(target), envelope))
        assert MANIFEST in names  # verify_bundle has seen it
        found, _ = self._settled()
        others = {} if found is None else {p: f for p, f in found[2].targets.items() if not p.startswith(f"{target}/")}
        wanted = {**others, **{file.path: file for file in files}}
        if found is not None and found[2].targets == wanted:
            self.refresh()
            return
        version = 1 if found is None else found[2].version + 1
        targets = Targets(version=version, expires=_now() + LIFETIMES["targets"], targets=wanted)
        self._write(self._put_targets(targets), found)

    def _put_targets(self, targets: Targets) -> MetaFile:
        data = self._sign(Metadata(targets), "targets")
        self._memory.put(f"{METADATA}/{targets.version}.targets.json", data)
        return MetaFile.from_data(targets.version, data, ["sha256"])

    def _write(self, targets: MetaFile, found: _State | None) -> None:
        """Signs a snapshot on targets metadata that is there, and the timestamp that makes it count; then publishes."""
        snapshot = Snapshot(
            version=1 if found is None else found[1].version + 1,
            expires=_now() + LIFETIMES["snapshot"],
            meta={"targets.json": targets},
        )
        data = self._sign(Metadata(snapshot), "snapshot")
        self._memory.put(f"{METADATA}/{snapshot.version}.snapshot.json", data)
        timestamp = Timestamp(
            version=1 if found is None else found[0].version + 1,
            expires=_now() + LIFETIMES["timestamp"],
            snapshot_meta=MetaFile.from_data(snapshot.version, data, ["sha256"]),
        )
        self._memory.put(f"{METADATA}/timestamp.json", self._sign(Metadata(timestamp), "timestamp"))
        self.settle()

    def refresh(self) -> bool:
        """Signs anew what has lived half its life, so that robots keep believing the channel.

        Returns:
            Whether anything was signed.
        """
        found, _ = self._settled()
        if found is None:
            return False
        timestamp, snapshot, targets = found

        def stale(metadata: Timestamp | Snapshot | Targets) -> bool:
            return bool(metadata.expires - _now() < LIFETIMES[metadata.type] / 2)

        if not (stale(timestamp) or stale(snapshot) or stale(targets)):
            return False
        meta = snapshot.meta["targets.json"]
        if stale(targets):
            renewed = Targets(
                version=targets.version + 1, expires=_now() + LIFETIMES["targets"], targets=dict(targets.targets)
            )
            meta = self._put_targets(renewed)
        self._write(meta, found)
        return True
