"""The two slots that a robot keeps its policies in, and the file that says which one runs."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from posa_vla.errors import BadInput, Busy, LaterVersion, PosaError, Refused
from posa_vla.files import read_json, sync_folder, sync_tree, write_bytes, write_json
from posa_vla.json_reader import LARGEST_RECORD
from posa_vla.release.bundle import verify_bundle
from posa_vla.release.record import ReleaseRecord, read_record, record_digest, verify
from posa_vla.release.trust import Trust
from posa_vla.schema import Closed, parse

SlotName = Literal["a", "b"]


class Installed(Closed):
    """What a slot holds."""

    release: int
    bundle_digest: str
    record_digest: str


class Attempts(Closed):
    """How often the release of a record was tried without becoming healthy."""

    record_digest: str
    count: int


class Seen(Closed):
    """The record with the highest sequence that a robot was offered, signed for it; whether it was healthy or not."""

    sequence: int = Field(ge=1)
    record_digest: str


def _absent(value: object) -> bool:
    return value is None


class SlotState(Closed):
    """`state.json`: replaced as a whole, so that there is one active slot at any instant.

    It is of version 1 until a record with a sequence was seen, so that an older agent reads what it can obey.

    Attributes:
        active: The slot that runs.
        pending: A slot whose policy has not shown itself healthy yet; never the active one.
        slots: What each slot holds; a slot that is not here holds nothing that may run.
        attempts: Of the release that was tried last, where it did not become healthy.
        seen: The newest record that the robot was offered; none of a lower sequence is taken (from version 2 on).
    """

    schema_version: Literal[1, 2] = 1
    active: SlotName | None = None
    pending: SlotName | None = None
    slots: dict[SlotName, Installed] = Field(default_factory=dict)
    attempts: Attempts | None = None
    seen: Seen | None = Field(default=None, exclude_if=_absent)

    @model_validator(mode="after")
    def _consistent(self) -> SlotState:
        if self.active is not None and (self.active not in self.slots or self.active == self.pending):
            raise ValueError(f"slot {self.active} is active, but holds nothing that was found healthy")
        if self.pending is not None and self.pending not in self.slots:
            raise ValueError(f"slot {self.pending} is pending, but holds nothing")
        if (self.seen is not None) != (self.schema_version == 2):
            raise ValueError(f"version {self.schema_version} of a state: expected `seen` from version 2 on, not before")
        return self


class Slots:
    """A robot's A/B slots below its home: `state.json`, `slots/<name>/` (bundle), `slots/<name>.json` (record)."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._root = home / "slots"
        self._file = home / "state.json"

    @property
    def state(self) -> SlotState:
        """The state as it is on the disk.

        Raises:
            Refused: The file is damaged, or a later posa-vla wrote it.
        """
        if not self._file.exists():
            return SlotState()
        try:
            return parse(SlotState, read_json(self._file, limit=LARGEST_RECORD), str(self._file))
        except LaterVersion as error:
            raise Refused(f"{error}; nothing is run and nothing is changed until then") from None
        except BadInput as error:
            raise Refused(
                f"{error}; nothing is run from slots whose state is unknown: delete {self._file}, then the agent "
                "installs from the channel again"
            ) from None

    def _write(self, state: SlotState) -> None:
        write_json(self._file, state.model_dump(mode="json"))

    def folder(self, slot: SlotName) -> Path:
        """The bundle of a slot."""
        return self._root / slot

    def _record(self, slot: SlotName) -> Path:
        return self._root / f"{slot}.json"

    @property
    def incoming(self) -> Path:
        """Where a bundle is downloaded to: neither slot is touched before it has verified."""
        return self._root / "incoming"

    @property
    def inactive(self) -> SlotName:
        """The slot that the next release goes into."""
        return "b" if self.state.active == "a" else "a"

    @property
    def running(self) -> Installed | None:
        """What the active slot holds, by the state; see `require_sound`."""
        state = self.state
        return None if state.active is None else state.slots[state.active]

    def require_sound(self, slot: SlotName, trust: Trust) -> ReleaseRecord:
        """Verifies signature, record and every byte of what a slot holds.

        Raises:
            Refused: The slot holds nothing, or its signature, record or a file of its bundle does not verify.
        """
        held = self.state.slots.get(slot)
        if held is None:
            raise Refused(f"slot {slot} holds nothing")
        try:
            envelope = self._record(slot).read_bytes()
        except OSError as error:
            raise Refused(f"the record of slot {slot} cannot be read: {error}") from None
        record = verify(envelope, trust)
        if record_digest(envelope) != held.record_digest or record.bundle_digest != held.bundle_digest:
            raise Refused(f"the record of slot {slot} is not the one that was installed there")
        verify_bundle(self.folder(slot), held.bundle_digest)
        return record

    def damage(self, slot: SlotName, trust: Trust) -> str | None:
        """Why what a slot holds may not run, or None; see `require_sound`."""
        try:
            self.require_sound(slot, trust)
        except PosaError as error:
            return str(error)
        return None

    def clear(self, slot: SlotName) -> None:
        """Empties a slot; from the first moment on it does not count as holding anything."""
        state = self.state
        kept = {name: held for name, held in state.slots.items() if name != slot}
        active = None if state.active == slot else state.active
        pending = None if state.pending == slot else state.pending
        self._write(state.model_copy(update={"slots": kept, "active": active, "pending": pending}))
        shutil.rmtree(self.folder(slot), ignore_errors=True)
        self._record(slot).unlink(missing_ok=True)

    def clean(self) -> list[str]:
        """Removes what a killed agent left: a download, a slot that never became healthy, files of an empty slot.

        Returns:
            What was removed, in words.
        """
        found = []
        for draft in [*self._home.glob(f".{self._file.name}.*"), *self._root.glob(".?.json.*")]:
            draft.unlink(missing_ok=True)  # of a write that was killed: nothing was lost, nothing is to be said
        if self.incoming.exists():
            self.discard_download()
            found.append("an unfinished download was discarded")
        state = self.state
        if state.pending is not None:
            found.append(f"release {state.slots[state.pending].release} never became healthy and was discarded")
            self.clear(state.pending)
        names: tuple[SlotName, ...] = ("a", "b")
        for slot in names:
            if slot not in state.slots:
                shutil.rmtree(self.folder(slot), ignore_errors=True)
                self._record(slot).unlink(missing_ok=True)
        return found

    def discard_download(self) -> None:
        """Removes `incoming`."""
        shutil.rmtree(self.incoming, ignore_errors=True)

    def attempts(self, record: str) -> int:
        """How often the release of a record digest was tried without becoming healthy."""
        tried = self.state.attempts
        return tried.count if tried is not None and tried.record_digest == record else 0

    def require_newest(self, record: ReleaseRecord, digest: str) -> None:
        """Stops where a verified record is older than one that this robot has seen.

        Before the first record with a sequence the robot goes by what it runs: that release's number counts as its
        sequence, and what was signed before it is older, a rollback too.

        Raises:
            Refused: The record is older, or it is of version 1, which has no sequence, after one that has.
        """
        seen = self.state.seen
        if seen is None:
            self._require_newer_than_running(record, digest)
            return
        if digest == seen.record_digest:
            return
        if record.sequence is None:
            raise Refused(
                f"the channel offers release {record.release} by a record of version 1, which has no sequence; this "
                f"robot has seen sequence {seen.sequence}: publish a release of record version 2"
            )
        if record.sequence <= seen.sequence:
            raise Refused(
                f"the channel offers release {record.release}, sequence {record.sequence}; this robot has seen "
                f"sequence {seen.sequence}: only a higher one is taken, for a rollback too"
            )

    def _require_newer_than_running(self, record: ReleaseRecord, digest: str) -> None:
        state = self.state
        if state.active is None or state.slots[state.active].record_digest == digest:
            return
        held = read_record(self._record(state.active).read_bytes())
        if record.sequence is not None and record.sequence <= held.release:
            raise Refused(
                f"the channel offers release {record.release}, sequence {record.sequence}; this robot runs release "
                f"{held.release}, which counts as sequence {held.release}: only a higher one is taken"
            )
        if record.created < held.created:  # UTC in one spelling: the order of the texts is that of the times
            raise Refused(
                f"the channel offers release {record.release} by a record of {record.created}; this robot runs release "
                f"{held.release} by one of {held.created}: an older one is not taken, as a rollback neither: publish "
                "anew"
            )

    def note(self, record: ReleaseRecord, digest: str) -> None:
        """Keeps the sequence of a record, which the caller has checked with `require_newest`."""
        if record.sequence is not None:
            seen = Seen(sequence=record.sequence, record_digest=digest)
            self._write(self.state.model_copy(update={"schema_version": 2, "seen": seen}))

    def forget_seen(self) -> None:
        """Forgets the sequences of a chain of trust that the robot no longer belongs to."""
        if self.state.seen is not None:
            self._write(self.state.model_copy(update={"schema_version": 1, "seen": None}))

    def stage(self, envelope: bytes, record: ReleaseRecord) -> SlotName:
        """Moves the verified bundle in `incoming` into the inactive slot.

        Without one the slot keeps its bundle, which the caller has found to be the record's.
        """
        slot = self.inactive
        if self.incoming.exists():
            sync_tree(self.incoming)
            self.clear(slot)
            os.rename(self.incoming, self.folder(slot))
            sync_folder(self._root)
        write_bytes(self._record(slot), envelope)
        return slot

    def mark_pending(self, slot: SlotName, held: Installed) -> None:
        """Notes that a slot is about to be tried."""
        state = self.state
        tried = Attempts(record_digest=held.record_digest, count=self.attempts(held.record_digest) + 1)
        slots = {**state.slots, slot: held}
        self._write(state.model_copy(update={"slots": slots, "pending": slot, "attempts": tried}))

    def commit(self, *, alone: bool = False) -> None:
        """Makes the pending slot the active one.

        Args:
            alone: Forget the other slot in the same write: it holds what a rollback leads away from.
        """
        state = self.state
        slots = {name: held for name, held in state.slots.items() if name == state.pending or not alone}
        changes = {"active": state.pending, "pending": None, "attempts": None, "slots": slots}
        self._write(state.model_copy(update=changes))

    def forget_attempts(self) -> None:
        """Lets a release that did not become healthy be tried again."""
        self._write(self.state.model_copy(update={"attempts": None}))

    def activate(self, slot: SlotName) -> None:
        """Makes a slot, found sound, the active one."""
        self._write(self.state.model_copy(update={"active": slot}))

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Holds the robot's home until the block ends; the kernel frees it when the process dies.

        Raises:
            Busy: Another agent holds it.
        """
        self._home.mkdir(parents=True, exist_ok=True)
        with (self._home / "lock").open("ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Busy(f"{self._home} is held by another agent: stop it, or choose another --home") from None
            yield
