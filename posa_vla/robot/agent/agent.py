"""The agent that keeps a robot on the newest release that it can trust."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from posa_vla.errors import LaterRecord, PosaError, Refused
from posa_vla.files import require_free_space
from posa_vla.release.bundle import verify_bundle
from posa_vla.release.record import ReleaseRecord, record_digest, verify
from posa_vla.release.trust import Trust
from posa_vla.robot.agent.health import Load, RobotPolicy, load_installed
from posa_vla.robot.agent.slots import Installed, SlotName, Slots
from posa_vla.robot.agent.trial import Check, check_health
from posa_vla.robot.control.pictures import Sizes

Status = Literal["installed", "unchanged", "refused"]

# Tries of a release that does not become healthy, over restarts, before the agent leaves it alone.
_ATTEMPTS = 3
# Room kept free beside a download (bytes).
_RESERVE = 64 << 20


class Releases(Protocol):
    """What the agent asks of a release channel's client."""

    def latest(self, target: str) -> bytes | None:
        """The envelope of the target's newest release, from metadata that is signed and fresh."""
        ...

    def download_bundle(self, target: str, digest: str, out: Path) -> object:
        """Writes the bundle of a digest to the new folder `out`."""
        ...


@dataclass(frozen=True)
class UpdateReport:
    """How an update ended.

    Attributes:
        status: `installed`, `unchanged`, or `refused`: what ran before runs on.
        release: Number of the release that runs now; None for none.
        digest: Digest of that release's bundle.
        record_digest: Digest of that release's record; two records may run the same bundle with other executions.
        reason: Why, in words; empty where there is nothing to say.
    """

    status: Status
    release: int | None
    digest: str | None
    record_digest: str | None
    reason: str


class Agent:
    """Installs releases into A/B slots; whatever happens, the last good policy stays.

    A release is installed if its record verifies with the robot's provisioned trust, it is newer than what runs (or a
    signed rollback), its bundle verifies, and its policy passes the health check. Killed at any moment, the next start
    finds exactly one active version: `state.json` changes by one rename, and a slot becomes active last.
    """

    def __init__(
        self,
        home: Path,
        channel: Releases,
        trust: Trust,
        *,
        load: Load = load_installed,
        check: Check | None = None,
        health_seconds: float = 60.0,
        checkpoint: Callable[[str], None] = lambda stage: None,
    ) -> None:
        """Makes an agent that is alone on `home` (see `Slots.lock`).

        Args:
            home: The robot's state folder.
            channel: Client of the release channel.
            trust: Whose signatures count, and for which target and embodiment.
            load: Makes a policy of a verified bundle, to run it.
            check: Tries what is installed before it may run; `check_health` if None.
            health_seconds: What loading and trying a policy may take.
            checkpoint: Called with the name of each stage of an update that is about to begin.
        """
        self.slots = Slots(home)
        self._home = home
        self._channel = channel
        self._trust = trust
        self._load = load
        self._check = check or check_health
        self._health_seconds = health_seconds
        self._checkpoint = checkpoint

    def recover(self) -> list[str]:
        """Discards what never became healthy, and what no longer verifies; falls back to the other slot.

        Returns:
            What was found, in words; empty where all is sound.

        Raises:
            Refused: `state.json` is damaged. Or a later posa-vla wrote it, or the record of what runs: then nothing is
                discarded.
        """
        found = self.slots.clean()
        active = self.slots.state.active
        if active is not None:
            try:
                self.slots.require_sound(active, self._trust)
            except LaterRecord:  # sound, and the last good one once this agent was upgraded
                raise
            except PosaError as error:
                found.append(f"slot {active} is not run: {error}")
                self.slots.clear(active)
            else:
                return found
        other: list[SlotName] = list(self.slots.state.slots)
        for slot in other:
            damage = self.slots.damage(slot, self._trust)
            if damage is None:
                self.slots.activate(slot)
                found.append(f"back to release {self.slots.state.slots[slot].release} in slot {slot}")
            else:
                self.slots.clear(slot)
                found.append(f"slot {slot} is not run: {damage}")
        return found

    def update(self, pictures: Callable[[ReleaseRecord], Sizes] = lambda record: {}) -> UpdateReport:
        """Takes the channel's newest release, if it is one to take; never leaves the robot with less than it had.

        Args:
            pictures: What the robot's cameras show a release, by role; its health is tried at these sizes, and at the
                policy's own where they are not known. Refuses a release for which they show too little.
        """
        found: list[str] = []
        status: Status
        try:
            found = self.recover()
            status, reason = self._take_newest(pictures)
        except (PosaError, OSError) as error:
            status, reason = "refused", str(error)
        finally:
            self.slots.discard_download()
        return self._report(status, "; ".join([*found, *([reason] if reason else [])]))

    def _report(self, status: Status, reason: str) -> UpdateReport:
        try:
            running = self.slots.running
        except Refused:  # the damage is the reason already
            running = None
        if running is None:
            return UpdateReport(status, None, None, None, reason)
        return UpdateReport(status, running.release, running.bundle_digest, running.record_digest, reason)

    def _take_newest(self, pictures: Callable[[ReleaseRecord], Sizes]) -> tuple[Status, str]:
        self._checkpoint("refresh")
        target = self._trust.target
        envelope = self._channel.latest(target)
        if envelope is None:
            return "unchanged", f"the channel holds no release for target {target}"
        record = verify(envelope, self._trust)
        digest = record_digest(envelope)
        self.slots.require_newest(record, digest)
        running = self.slots.running
        if running is not None and running.record_digest == digest:
            return "unchanged", ""
        if running is not None and record.release <= running.release and not record.rollback:
            raise Refused(
                f"the channel offers release {record.release}, release {running.release} runs: only a newer one is "
                "installed, or an older one by a signed rollback"
            )
        self.slots.note(record, digest)
        if self.slots.attempts(digest) >= _ATTEMPTS:
            raise Refused(
                f"release {record.release} did not become healthy in {_ATTEMPTS} attempts: publish a newer one, or "
                "have it tried again: posa robot run --retry"
            )
        sizes = pictures(record)
        self._fetch(record)
        self._checkpoint("stage")
        slot = self.slots.stage(envelope, record)
        held = Installed(release=record.release, bundle_digest=record.bundle_digest, record_digest=digest)
        self._checkpoint("mark")
        self.slots.mark_pending(slot, held)
        self._try(slot, held, record, sizes)
        return "installed", ""

    def _fetch(self, record: ReleaseRecord) -> None:
        """Brings the record's bundle into `incoming`, unless the inactive slot holds it."""
        held = self.slots.state.slots.get(self.slots.inactive)
        if held is not None and held.bundle_digest == record.bundle_digest:
            try:
                verify_bundle(self.slots.folder(self.slots.inactive), record.bundle_digest)
            except PosaError:
                self.slots.clear(self.slots.inactive)
            else:
                return
        require_free_space(self._home, _RESERVE, "a release")
        self._checkpoint("download")
        self.slots.incoming.parent.mkdir(parents=True, exist_ok=True)
        self._channel.download_bundle(self._trust.target, record.bundle_digest, self.slots.incoming)
        self._checkpoint("verify")
        verify_bundle(self.slots.incoming, record.bundle_digest)

    def _try(self, slot: SlotName, held: Installed, record: ReleaseRecord, sizes: Sizes) -> None:
        """Commits a pending slot that is healthy, empties one that is not."""
        self._checkpoint("health")
        folder, robot = self.slots.folder(slot), self._trust.embodiment_digest
        complaint = self._check(folder, held.bundle_digest, robot, sizes, record.execution, self._health_seconds)
        if complaint is not None:
            self._checkpoint("revert")
            self.slots.clear(slot)
            raise Refused(f"release {held.release} is not healthy: {complaint}")
        self._checkpoint("commit")
        self.slots.commit(alone=record.rollback)
        self._checkpoint("done")

    def installed(self) -> tuple[ReleaseRecord, RobotPolicy]:
        """The record and the policy that the active slot holds, verified again just before it is loaded.

        Raises:
            Refused: Nothing is installed, or it does not verify.
        """
        active = self.slots.state.active
        if active is None:
            raise Refused(f"nothing is installed in {self._home}: no release has been taken from the channel yet")
        record = self.slots.require_sound(active, self._trust)
        return record, self._load(self.slots.folder(active), record.bundle_digest)
