"""Objects as DVC keeps them, in cache and remote: named by their MD5, a folder by a listing of its files.

DVC itself trusts a listing, and takes a folder for whole where its listing is; here nothing is trusted unread.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from posa_vla.errors import PosaError
from posa_vla.json_reader import decode_json
from posa_vla.objects.contract import Objects
from posa_vla.objects.directory import DirectoryObjects
from posa_vla.yaml_file import parse_yaml

# Below this everything lies, in cache and remote.
OBJECTS = "files/md5/"
# What the name of a folder's listing ends with.
LISTING = ".dir"


def episodes_object(text: str) -> str:
    """Name of the object that lists the episodes, by the text of `data/episodes.dvc`."""
    return str(parse_yaml(text, "data/episodes.dvc")["outs"][0]["md5"])


def object_path(name: str) -> str:
    """Where DVC keeps content, by its hex MD5, in cache and remote."""
    return f"{OBJECTS}{name[:2]}/{name[2:]}"


def object_name(path: str) -> str:
    """The name of the object that lies at a path; see `object_path`."""
    return path.removeprefix(OBJECTS).replace("/", "")


def content_md5(pieces: Iterator[bytes] | None) -> str | None:
    """Hex MD5 of an object's content; None where there is none."""
    if pieces is None:
        return None
    digest = hashlib.md5(usedforsecurity=False)
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()


def is_sound(place: Objects, name: str) -> bool:
    """Whether a place has an object whose content has the MD5 that the object is named by."""
    return content_md5(place.read(object_path(name))) == name.removesuffix(LISTING)


def listed(name: str, places: Iterable[Objects]) -> list[str] | None:
    """Names of a folder's files, from the first place with an undamaged listing; None where no place has one."""
    for place in places:
        data = place.get(object_path(name))
        if data is not None and content_md5(iter([data])) == name.removesuffix(LISTING):
            return [str(entry["md5"]) for entry in decode_json(data, f"listing {name}")]
    return None


def complete(remote: Objects, cache: Path, name: str) -> int:
    """Copies the objects of a folder that a remote lacks, or has only a part of, from the cache to the remote.

    Returns:
        How many objects the remote lacked.

    Raises:
        PosaError: The cache lacks these objects too or has them damaged, or the remote does not answer.
    """
    here = DirectoryObjects(cache)
    files = listed(name, [here, remote])
    if files is None:
        raise PosaError(_lost(remote, name))
    there = {found.path: found.size for found in remote.stored(OBJECTS)}
    # The listing last: where it is, DVC looks no further.
    lacking = [one for one in (*dict.fromkeys(files), name) if not _whole(there, cache, object_path(one))]
    for one in lacking:
        if not is_sound(here, one):
            raise PosaError(_lost(remote, one))
        remote.put_copy(object_path(one), cache / object_path(one))
    return len(lacking)


def _whole(there: dict[str, int], cache: Path, path: str) -> bool:
    """Whether the remote has an object in its full length, as far as the cache can tell."""
    place = cache / path
    return path in there and (not place.is_file() or place.stat().st_size == there[path])


def _lost(remote: Objects, name: str) -> str:
    path = object_path(name)
    return (
        f"{remote.location}/{path} is missing, and the cache has no sound copy: run `posa data verify`, which names "
        "the files and their remedies, then the same command again"
    )
