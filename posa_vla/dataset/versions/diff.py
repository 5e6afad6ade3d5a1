"""What differs between two versions of the data."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from pydantic import Field

from posa_vla.dataset.shards.manifest import SplitCount
from posa_vla.dataset.versions.clone import Clone, open_clone
from posa_vla.dataset.versions.history import Version, all_versions, find_version
from posa_vla.dataset.versions.record import EpisodeEntry
from posa_vla.json_reader import decode_json
from posa_vla.schema import Closed
from posa_vla.workspace import Workspace
from posa_vla.yaml_file import parse_yaml

Value = TypeVar("Value")


class Then(Closed, Generic[Value]):
    """One thing in both versions; the document's keys are `from` and `to`.

    Attributes:
        before: In the first version.
        after: In the second version.
    """

    before: Value = Field(serialization_alias="from")
    after: Value = Field(serialization_alias="to")


class Episode(EpisodeEntry):
    """An episode with its digest."""

    digest: str


class Moved(Closed):
    """How the statistics of a vector's channels moved.

    Attributes:
        mean_shift: Change of each channel's mean, in standard deviations of the first version.
        spread_ratio: Ratio of each channel's standard deviations, second to first.
    """

    mean_shift: list[float]
    spread_ratio: list[float]


class VersionsDiff(Then[str]):
    """The document of `posa data diff --json`; `before` and `after` are the versions' names.

    Attributes:
        came: Episodes that only the second version has.
        went: Episodes that only the first version has.
        quarantined: Episodes of both that only the second version keeps out of training.
        kept: Keys of episodes that could not be read, new in the second version.
        released: Episodes of both that only the first version keeps out of training.
        splits: Split -> episodes and frames.
        labels: What the labels' statistics say.
        moved: Vector -> how its statistics moved.
        params: Parameter -> value then and now.
    """

    came: list[Episode]
    went: list[Episode]
    quarantined: list[Episode]
    kept: list[str]
    released: list[Episode]
    splits: Then[dict[str, SplitCount]]
    labels: Then[Any]
    moved: dict[str, Moved]
    params: dict[str, tuple[Any, Any]]

    def document(self) -> dict[str, Any]:
        """What `--json` prints."""
        return self.model_dump(mode="json", by_alias=True)


def diff_versions(workspace: Workspace, first: str, second: str) -> VersionsDiff:
    """How two versions differ: episodes that came and went, and how the statistics of the training data moved.

    Raises:
        BadInput: There is no such version.
        PosaError: git failed.
    """
    with open_clone(workspace) as clone:
        versions = all_versions(clone)
        a, b = find_version(versions, first), find_version(versions, second)
        statistics = [_json_at(clone, v.commit, "data/statistics.json") for v in (a, b)]
        params = [_params_at(clone, v.commit) for v in (a, b)]
    before, after = a.record.episodes, b.record.episodes
    both = before.keys() & after.keys()
    return VersionsDiff(
        before=a.name,
        after=b.name,
        came=[_episode(d, b) for d in sorted(after.keys() - before.keys())],
        went=[_episode(d, a) for d in sorted(before.keys() - after.keys())],
        quarantined=[_episode(d, b) for d in sorted(both) if after[d].quarantined and not before[d].quarantined],
        kept=sorted(set(b.record.kept) - set(a.record.kept)),
        released=[_episode(d, b) for d in sorted(both) if before[d].quarantined and not after[d].quarantined],
        splits=Then(before=a.record.splits, after=b.record.splits),
        labels=Then(before=statistics[0].get("labels"), after=statistics[1].get("labels")),
        moved=_moved(*statistics),
        params=_changed({k: params[0].get(k) for k in ("validation", "prepare")}, params[1]),
    )


def _json_at(clone: Clone, commit: str, path: str) -> dict[str, Any]:
    value = decode_json(clone.git("show", f"{commit}:{path}").encode(), f"{path} of commit {commit[:12]}")
    return value if isinstance(value, dict) else {}


def _params_at(clone: Clone, commit: str) -> Any:
    return parse_yaml(clone.git("show", f"{commit}:params.yaml"), f"params.yaml of {commit[:12]}")


def _episode(digest: str, version: Version) -> Episode:
    return Episode(digest=digest, **version.record.episodes[digest].model_dump())


def _moved(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Moved]:
    moved: dict[str, Moved] = {}
    for name in ("state", "action"):
        a, b = before["normalisation"][name], after["normalisation"][name]
        if len(a["mean"]) != len(b["mean"]):
            continue
        spreads = [value if value > 1e-9 else 1.0 for value in a["std"]]
        moved[name] = Moved(
            mean_shift=[round((y - x) / s, 4) for x, y, s in zip(a["mean"], b["mean"], spreads, strict=True)],
            spread_ratio=[round(y / s, 4) for y, s in zip(b["std"], spreads, strict=True)],
        )
    return moved


def _changed(before: dict[str, Any], after: dict[str, Any], path: str = "") -> dict[str, tuple[Any, Any]]:
    changed: dict[str, tuple[Any, Any]] = {}
    for key, old in before.items():
        new = after.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            changed |= _changed(old, new, f"{path}{key}.")
        elif old != new:
            changed[f"{path}{key}"] = (old, new)
    return changed
