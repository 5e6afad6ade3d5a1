"""Episodes that could not be taken into a batch, kept as they came; and episodes that a person has released."""

from __future__ import annotations

import getpass
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from pydantic import Field

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
        rule: Rule that it breaks.
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


class Release(Closed):
    """A person's word that an episode with severe findings may be learnt from all the same.

    Attributes:
        episode: The episode's digest.
        rules: The rules that are waived for it; others, and later ones, still count.
        reason: Why.
        who: Name of the account that released it.
        when: POSIX seconds.
    """

    schema_version: Literal[1] = 1
    episode: str = Field(pattern=r"^[0-9a-f]{64}$")
    rules: list[str] = Field(min_length=1)
    reason: str = Field(min_length=1)
    who: str
    when: float


class Quarantine:
    """`quarantine/` and `releases/` of an episode store; what is there never changes."""

    def __init__(self, root: Path) -> None:
        self._folder, self._releases = root / "quarantine", root / "releases"

    def add(self, kept: Kept, files: Iterable[tuple[str, Path]]) -> str:
        """Keeps an episode's original files.

        Args:
            kept: What is known of it; `files` is filled in here.
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
        """Key -> episode.

        Raises:
            BadInput: A record is damaged.
        """
        found = sorted(self._folder.glob("*/origin.json")) if self._folder.is_dir() else []
        return {path.parent.name: parse(Kept, read_json(path), str(path)) for path in found}

    def release(self, episode: str, rules: list[str], reason: str) -> Release:
        """Notes that an episode is released; a later release of it replaces the earlier one.

        Args:
            episode: Its digest.
            rules: The rules that are waived.
            reason: Why.

        Raises:
            BadInput: There is no reason, or nothing to waive.
        """
        if not reason.strip():
            raise BadInput("a release needs a reason: --reason TEXT")
        if not rules:
            raise BadInput(f"episode {episode[:12]} has no severe finding: there is nothing to release")
        release = Release(
            episode=episode, rules=sorted(set(rules)), reason=reason.strip(), who=getpass.getuser(), when=time.time()
        )
        write_json(safe_join(self._releases, f"{episode}.json"), release.model_dump(mode="json"))
        return release

    def releases(self) -> dict[str, Release]:
        """Digest -> release.

        Raises:
            BadInput: A record is damaged.
        """
        found = sorted(self._releases.glob("*.json")) if self._releases.is_dir() else []
        return {path.stem: parse(Release, read_json(path), str(path)) for path in found}

    def digest(self) -> dict[str, list[str]]:
        """What an episode store's digest has to count of it; empty where there is nothing."""
        kept = {"kept": sorted(self.kept())} if self._folder.is_dir() else {}
        releases = self.releases()
        return kept | ({"releases": [sha256_json(r.model_dump()) for r in releases.values()]} if releases else {})


def by_prefix(prefix: str, known: Iterable[str], what: str) -> str:
    """The one key that begins so.

    Raises:
        BadInput: None does, or several do.
    """
    names = sorted(known)
    found = [name for name in names if name.startswith(prefix)] if prefix else []
    if len(found) == 1:
        return found[0]
    if found:
        raise BadInput(f"{what} {prefix!r} may be {', '.join(name[:16] for name in found[:5])}: give more of it")
    raise BadInput(f"no {what} {prefix!r}; {did_you_mean(prefix, [name[:12] for name in names])}")
