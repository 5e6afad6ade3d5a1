"""What is declared of robots now, against what was declared when their episodes were recorded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from posa_vla.episodes.embodiment import UNSTATED, Embodiment, load_embodiment, shipped_embodiments
from posa_vla.episodes.lerobot.reader import DatasetReader
from posa_vla.episodes.store.episode_store import EpisodeStore
from posa_vla.errors import BadInput
from posa_vla.params import Params


def meant_otherwise(recorded: Embodiment, declared: Embodiment) -> list[str]:
    """The parts of a declaration by which recorded numbers mean something else than an embodiment declares now.

    Limits and models do not change what numbers mean, nor does stating what was unstated at the recording. A recording
    may lack cameras that are declared now.
    """

    def meaning(embodiment: Embodiment) -> dict[str, list[str]]:
        return {
            "state": [part for channel in embodiment.state for part in (channel.name, channel.unit)],
            "action": [part for channel in embodiment.action for part in (channel.name, channel.unit)],
            "action_frame": [embodiment.action_frame],
            "control_hz": [str(embodiment.control_hz)],
        }

    before, now = meaning(recorded), meaning(declared)
    # Before its chain was declared, a robot had no poses that could be of other end effectors.
    ends = recorded.kinematics is not None and recorded.end_effectors != declared.end_effectors
    cameras = not set(recorded.cameras) <= set(declared.cameras)
    return (
        (["end_effectors"] if ends else [])
        + (["cameras"] if cameras else [])
        + [
            name
            for name, parts in now.items()
            if len(parts) != len(before[name])
            or any(old not in {new, UNSTATED} for old, new in zip(before[name], parts, strict=True))
        ]
    )


def require_meant_alike(batch: str, recorded: Embodiment, declared: Embodiment, *, resample: bool = False) -> None:
    """Stops where a batch's numbers mean something else than an embodiment declares now.

    Args:
        batch: Its digest.
        recorded: The declaration that it has.
        declared: The one of now.
        resample: Whether it may have another rate.

    Raises:
        BadInput: The batch's numbers mean something else; the message names what changed.
    """
    unlike = [part for part in meant_otherwise(recorded, declared) if not (resample and part == "control_hz")]
    if unlike == ["control_hz"]:
        raise BadInput(
            f"batch {batch[:12]} was recorded at {recorded.control_hz:g} Hz, embodiment {declared.id} is controlled at "
            f"{declared.control_hz:g} Hz: prepare.resample=true takes its frames at that rate"
        )
    if unlike:
        raise BadInput(
            f"batch {batch[:12]} was recorded when embodiment {declared.id} had other {', '.join(unlike)}: give the "
            f"changed robot an id of its own, or take the batch out (`posa data remove {batch[:12]} --reason TEXT`)"
        )


def judged_by(recorded: Embodiment, declared: Mapping[str, Embodiment]) -> Embodiment:
    """The declaration that a batch is judged by: the one of now, where its numbers mean the same by it."""
    now = declared.get(recorded.id, recorded)
    return recorded if meant_otherwise(recorded, now) else now


def declared_embodiments(store: EpisodeStore, params: Params, folder: Path) -> dict[str, Embodiment]:
    """Id -> declaration, for each robot of a store that has one.

    A robot's declaration is `<id>.yaml` beside the parameter file, else that of the target, else the shipped one.

    Args:
        store: Store whose robots are looked up.
        params: Parameters, which name the target.
        folder: The parameter file's folder.

    Raises:
        BadInput: A file does not fit the schema.
    """
    ids = set()
    for batch in store.batches():
        try:
            ids.add(DatasetReader(store.folder(batch)).embodiment.id)
        except BadInput:
            continue  # validation names it
    named = params.chosen.embodiment
    places = [str(path) for path in (folder / named, Path(named)) if path.is_file()]
    found = [load_embodiment(name) for name in (places or [n for n in shipped_embodiments() if n == named])[:1]]
    declared = {embodiment.id: embodiment for embodiment in _shipped(ids)}
    declared |= {embodiment.id: embodiment for embodiment in found}
    for identity in ids:
        if (folder / f"{identity}.yaml").is_file():
            own = load_embodiment(str(folder / f"{identity}.yaml"))
            declared[own.id] = own
    return declared


def _shipped(ids: Iterable[str]) -> list[Embodiment]:
    return [load_embodiment(name) for name in sorted(set(ids) & shipped_embodiments().keys())]
