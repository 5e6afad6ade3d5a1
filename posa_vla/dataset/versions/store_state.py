"""Which version the episode store is at, and whether it still is what its history knows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

from posa_vla.episodes.store.episode_store import EpisodeStore
from posa_vla.errors import BadInput
from posa_vla.files import read_json, write_json
from posa_vla.schema import Closed, parse
from posa_vla.workspace import Workspace


class StoreState(Closed):
    """`store-state.json` of a workspace.

    Attributes:
        name: The version that was made of the store, or checked out, last.
        version: Its digest.
        batches: Digests of the batches that the store had then.
        moving: A checkout of it has begun, and has not ended: the store may be between two versions.
    """

    schema_version: Literal[1] = 1
    name: str
    version: str
    batches: list[str]
    moving: bool = False


def _place(workspace: Workspace) -> Path:
    return workspace.home / "store-state.json"


def read_state(workspace: Workspace) -> StoreState | None:
    """The state; None where no version was made since there are such files.

    Raises:
        BadInput: The file is damaged.
    """
    path = _place(workspace)
    return parse(StoreState, read_json(path), str(path)) if path.exists() else None


def write_state(workspace: Workspace, name: str, version: str, batches: Iterable[str], *, moving: bool = False) -> None:
    """Writes down the version that the store is at, or that a checkout is bringing it to."""
    state = StoreState(name=name, version=version, batches=sorted(batches), moving=moving)
    write_json(_place(workspace), state.model_dump(mode="json"))


def require_whole(workspace: Workspace) -> None:
    """Stops where the store is incomplete, so that nobody may learn from it.

    A checkout was killed in its middle, or a batch of the version that the store is at has gone, which nobody took out:
    a version without it would hide the loss.

    Raises:
        BadInput: A checkout was cut off, or a batch is missing; the message names the command that mends it.
    """
    state = read_state(workspace)
    if state is None:
        return
    if state.moving:
        raise BadInput(
            f"the episode store is between two versions: a checkout of {state.name} was cut off; "
            f"`posa data checkout {state.name}` finishes it"
        )
    store = EpisodeStore(workspace.store)
    taken_out = {removal.batch for removal in store.removed().values()}
    gone = sorted(set(state.batches) - set(store.batches()) - taken_out)
    if gone:
        raise BadInput(
            f"{workspace.store / 'batches' / gone[0]} is missing ({len(gone)} such), and the store is at "
            f"{state.name}, which has it: `posa data checkout {state.name}` brings it back"
        )


def _name_of(path: str) -> str:
    """`batches/<digest>` or `quarantine/<key>`; the path itself of what is decided again, which may change."""
    return "/".join(path.split("/")[:2])


def _by_name(files: Mapping[str, str]) -> dict[str, dict[str, str]]:
    grouped: dict[str, dict[str, str]] = {}
    for path, digest in files.items():
        if path.count("/") > 1:  # files two levels down, a release for one, are decided again
            grouped.setdefault(_name_of(path), {})[path] = digest
    return grouped


def require_unchanged(known: Iterable[tuple[str, Mapping[str, str]]], files: Mapping[str, str], root: Path) -> None:
    """Stops where a file of a batch is not what the newest version with that batch recorded.

    Args:
        known: Versions, the newest first: name, and path below the store -> hex SHA-256.
        files: The same of the store as it is.
        root: Of the store.

    Raises:
        BadInput: A file differs or is missing; the message names it, and the version that still has the right one.
    """
    waiting = _by_name(files)
    for version, there in known:
        recorded = _by_name(there)
        for name in sorted(waiting.keys() & recorded.keys()):
            now, then = waiting.pop(name), recorded[name]
            wrong = sorted(path for path in now.keys() | then.keys() if now.get(path) != then.get(path))
            if wrong:
                path = wrong[0]
                what = "is missing" if path not in now else "is new there" if path not in then else "is not what it was"
                raise BadInput(
                    f"{root / path} {what} (compared with {version}): it was changed or is damaged; "
                    f"`posa data checkout {version}` brings it back"
                )
        if not waiting:
            return
