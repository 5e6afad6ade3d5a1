"""What `posa doctor` finds of the workspace's records: whether this posa-vla reads what another one wrote."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from posa_vla.cli.doctor.finding import Finding

if TYPE_CHECKING:
    from posa_vla.workspace import Workspace


def _readers(workspace: Workspace) -> Iterator[tuple[Path, Callable[[Path], object]]]:
    """Every record that an upgrade must be able to read, with what reads it."""
    from posa_vla.dataset.versions.store_state import StoreState
    from posa_vla.evidence.offline import read_offline
    from posa_vla.evidence.record import read_evidence
    from posa_vla.promotion.gate import Decision
    from posa_vla.promotion.log import PromotionLog
    from posa_vla.release.record import read_record
    from posa_vla.release.trust import Trust
    from posa_vla.robot.agent.slots import Slots
    from posa_vla.schema import parse_json

    yield from ((path, read_evidence) for path in workspace.evidence.glob("*.json"))
    yield from ((path, read_offline) for path in workspace.evidence.glob("offline/*.json"))
    for path in (workspace.promotions / "decisions").glob("*.json"):
        yield path, lambda path: parse_json(Decision, path.read_bytes(), str(path))
    for path in workspace.promotions.glob("*/records/**/*.dsse.json"):
        yield path, lambda path: read_record(path.read_bytes())
    for path in workspace.promotions.glob("*/trust/trust.json"):
        yield path, lambda path: parse_json(Trust, path.read_bytes(), str(path))
    for path in workspace.promotions.glob("*/log.jsonl"):
        yield path, lambda path: PromotionLog(path).verify()
    for path in workspace.robots.glob("*/state.json"):
        yield path, lambda path: Slots(path.parent).state
    for path in workspace.home.glob("store-state.json"):
        yield path, lambda path: parse_json(StoreState, path.read_bytes(), str(path))


def look_at_records(workspace: Workspace) -> Finding:
    """Reads every record; the first one that cannot be read is named, with what to do."""
    from posa_vla.errors import PosaError

    count = 0
    for path, read in _readers(workspace):
        try:
            read(path)
        except PosaError as error:
            text = str(error).splitlines()[0]
            return Finding("records", "unsound", text if str(path) in text else f"{path}: {text}")
        count += 1
    if not count:
        return Finding("records", "absent", "none yet")
    return Finding("records", "sound", f"{count} of versions that this posa-vla reads: nothing is to be carried over")
