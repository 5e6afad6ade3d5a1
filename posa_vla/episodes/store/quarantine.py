"""Episodes that could not be read, kept as they came; what was replaced by a better one; what a person has released."""

from __future__ import annotations

import getpass
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from posa_vla.errors import BadInput, did_you_mean
from posa_vla.files import copy_whole, new_folder, read_json, safe_join, sha256_file, sha256_json, write_json
from posa_vla.schema import Closed, parse

_WORDS = ("dataset", "instruction", "value")


class Kept(Closed):
    """`origin.json` of an episode that could not be read: where it came from, and what is wrong with it.

    Attributes:
        dataset: Name of the dataset's folder.
        episode: Its number there.
        length: Frames that the dataset claims, or None.
        instruction: As the dataset has it.
        rule: Rule that the episode breaks.
        value: What was found, in words.
        files: The original files, by name: hex SHA-256; they lie in `quarantine/files/`.
    """

    schema_version: Literal[1] = 1
    dataset: str
    episode: int
    length: int | None
    instruction: str
    rule: str
    value: str
    files: dict[str, str]


class Replaced(Closed):
    """`quarantine/<key>.json`: why an episode, or what was kept of one, counts no more.

    Attributes:
        key: Digest of the episode, or its key in quarantine.
        by: Digest of the episode that counts in its place, as long as the store has it; empty where a person decided.
        reason: Why, in words.
    """

    schema_version: Literal[1] = 1
    key: str = Field(pattern=r"^[0-9a-f]{64}$")
    by: str = Field(pattern=r"^([0-9a-f]{64})?$")
    reason: str = Field(min_length=1)


class Waiver(Closed):
    """One decision of a person.

    Attributes:
        rules: The rules that are waived.
        reason: Why, in a person's words.
        who: Name of the account that decided.
        when: POSIX seconds.
    """

    rules: list[str] = Field(min_length=1)
    reason: str = Field(min_length=1)
    who: str
    when: float


class Release(Closed):
    """A person's word that an episode with severe findings may be learnt from all the same.

    Attributes:
        episode: The episode's digest.
        waivers: Each decision, oldest first; rules that none of them names, and later ones, still count.
    """

    schema_version: Literal[2] = 2
    episode: str = Field(pattern=r"^[0-9a-f]{64}$")
    waivers: list[Waiver] = Field(min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _of_version_1(cls, value: Any) -> Any:
        """Version 1 held the last decision alone."""
        if not isinstance(value, dict) or value.get("schema_version") != 1:
            return value
        waiver = {name: part for name, part in value.items() if name not in {"schema_version", "episode"}}
        return {"episode": value.get("episode"), "waivers": [waiver]}

    @property
    def rules(self) -> list[str]:
        """All rules that are waived, sorted."""
        return sorted({rule for waiver in self.waivers for rule in waiver.rules})

    def reason(self, rule: str) -> str:
        """Why a rule is waived, by the last decision about it; empty where it is not."""
        return next((waiver.reason for waiver in reversed(self.waivers) if rule in waiver.rules), "")


class Quarantine:
    """`quarantine/` and `releases/` of an episode store; what is there never changes."""

    def __init__(self, root: Path) -> None:
        self._folder, self._releases = root / "quarantine", root / "releases"

    def add(self, kept: Kept, files: Iterable[tuple[str, Path]]) -> str:
        """Keeps an episode's original files.

        Args:
            kept: What is known of the episode; `files` is filled in here.
            files: Name and place of each.

        Returns:
            Its key: the same files with the same finding are one.
        """
        digests = {name: self._keep(path) for name, path in files}
        # Half a UTF-16 pair, in a folder's name perhaps, is no text that can be hashed.
        words = {name: getattr(kept, name).encode("utf-8", "replace").decode() for name in _WORDS}
        kept = kept.model_copy(update={**words, "files": digests})
        same = {"files": digests, "episode": kept.episode, "rule": kept.rule} if digests else kept.model_dump()
        key = sha256_json(same)
        with new_folder(self._folder / key) as draft:
            write_json(draft / "origin.json", kept.model_dump(mode="json"))
        return key

    def _keep(self, path: Path) -> str:
        digest = sha256_file(path)
        place = self._folder / "files" / f"{digest}{path.suffix}"
        if not place.is_file():
            copy_whole(path, place)
        return digest

    def kept(self) -> dict[str, Kept]:
        """Key in quarantine -> what is known of the episode.

        Raises:
            BadInput: A record is damaged.
        """
        found = sorted(self._folder.glob("*/origin.json")) if self._folder.is_dir() else []
        return {path.parent.name: parse(Kept, read_json(path), str(path)) for path in found}

    def replace(self, key: str, by: str, reason: str) -> Replaced:
        """Notes that an episode, or what was kept of one, counts no more.

        Args:
            key: Digest of the episode, or its key in quarantine.
            by: Digest of the episode that counts in its place; it may come into the store later. Empty where a person
                decided.
            reason: Why, in words.

        Returns:
            The record.
        """
        replaced = Replaced(key=key, by=by, reason=reason)
        # What comes now, perhaps again, is the latest: no two replace each other.
        (self._folder / f"{by}.json").unlink(missing_ok=True)
        write_json(self._folder / f"{key}.json", replaced.model_dump(mode="json"))
        return replaced

    def replaced(self) -> dict[str, Replaced]:
        """Digest or key -> what it was replaced by, whether that is in the store or not (`EpisodeStore.replaced`).

        Raises:
            BadInput: A record is damaged.
        """
        found = sorted(self._folder.glob("*.json")) if self._folder.is_dir() else []
        return {path.stem: parse(Replaced, read_json(path), str(path)) for path in found}

    def release(self, episode: str, rules: list[str], reason: str) -> Release:
        """Notes that an episode is released; what an earlier release of it waived stays waived.

        Args:
            episode: Its digest.
            rules: The rules that are waived.
            reason: Why, in a person's words.

        Raises:
            BadInput: There is no reason, or nothing to waive.
        """
        if not reason.strip():
            raise BadInput("a release needs a reason: --reason TEXT")
        if not rules:
            raise BadInput(f"episode {episode[:12]} has no severe finding: there is nothing to release")
        waiver = Waiver(rules=sorted(set(rules)), reason=reason.strip(), who=getpass.getuser(), when=time.time())
        earlier = self.releases().get(episode)
        release = Release(episode=episode, waivers=[*(earlier.waivers if earlier is not None else ()), waiver])
        write_json(safe_join(self._releases, f"{episode}.json"), release.model_dump(mode="json"))
        return release

    def _release_files(self) -> list[Path]:
        return sorted(self._releases.glob("*.json")) if self._releases.is_dir() else []

    def releases(self) -> dict[str, Release]:
        """Digest of an episode -> its release.

        Raises:
            BadInput: A record is damaged.
        """
        return {path.stem: parse(Release, read_json(path), str(path)) for path in self._release_files()}

    def digest(self) -> dict[str, list[str]]:
        """What counts of the quarantine in a store's digest; empty where nothing is quarantined or released."""
        aside = {"kept": sorted(self.kept())} if self._folder.is_dir() else {}
        if replaced := self.replaced():
            aside["replaced"] = [sha256_json(record.model_dump()) for record in replaced.values()]
        # By what the files say: a store that has not changed keeps its digest when the schema does.
        if releases := self._release_files():
            aside["releases"] = [sha256_json(read_json(path)) for path in releases]
        return aside


def by_prefix(prefix: str, known: Iterable[str], what: str) -> str:
    """The one key that begins with these digits.

    Raises:
        BadInput: No key begins with these digits, or several keys do.
    """
    names = sorted(known)
    found = [name for name in names if name.startswith(prefix)] if prefix else []
    if len(found) == 1:
        return found[0]
    if found:
        raise BadInput(f"{what} {prefix!r} may be {', '.join(name[:16] for name in found[:5])}: give more of it")
    raise BadInput(f"no {what} {prefix!r}; {did_you_mean(prefix, [name[:12] for name in names])}")
