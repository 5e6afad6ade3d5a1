"""Writing files so that they appear whole, digests, and room on the disk."""

from __future__ import annotations

import codecs
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from posa_vla.errors import BadInput
from posa_vla.json_reader import LARGEST, decode_json


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_folder(folder: Path) -> None:
    """Flushes a folder's entries (a rename in it) to the disk."""
    _sync(folder)


def sync_tree(folder: Path) -> None:
    """Flushes every file below `folder`, and the folders themselves, to the disk."""
    for root, _, names in os.walk(folder):
        for name in names:
            _sync(Path(root) / name)
        _sync(Path(root))


def write_bytes(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Writes a file so that a reader sees the old content or the new, never a part, whatever is killed when."""
    write_pieces(path, [data], mode=mode)


def write_pieces(path: Path, pieces: Iterable[bytes], *, mode: int = 0o644) -> None:
    """`write_bytes` of what need not fit into the memory.

    Raises:
        BadInput: `path` is a folder.
    """
    if path.is_dir():
        raise BadInput(f"{path} is a folder, expected the name of a file to write")
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as out:
            for piece in pieces:
                out.write(piece)
            out.flush()
            os.fsync(out.fileno())
        os.chmod(name, mode)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def copy_whole(source: Path, target: Path) -> None:
    """Copies a file so that the copy appears whole, whatever is killed when."""
    with source.open("rb") as file:
        write_pieces(target, iter(lambda: file.read(1 << 22), b""))


def write_text(path: Path, text: str) -> None:
    """`write_bytes` of UTF-8 text."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """`write_bytes` of readable JSON with sorted keys; NaN is refused."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n")


def read_bytes(path: Path, limit: int = -1) -> bytes:
    """What is in a file, or its first `limit` bytes.

    Raises:
        BadInput: The file is missing or cannot be read.
    """
    try:
        with path.open("rb") as file:
            return file.read(limit)
    except FileNotFoundError:
        raise BadInput(f"{path} does not exist") from None
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}") from None


def read_text(path: Path) -> str:
    """The text of a file that a person may have written: UTF-8, with or without a byte order mark, whatever the locale.

    Raises:
        BadInput: The file is missing, or is no UTF-8; the message says line and column.
    """
    data = read_bytes(path)
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise BadInput(f"{path}, line 1, column 1: the file is UTF-16, expected UTF-8: save it as UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8-sig")
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        raise BadInput(
            f"{path}, line {line}, column {column}: byte 0x{data[error.start]:02x} is no UTF-8: save the file as UTF-8"
        ) from None


def read_json(path: Path, *, limit: int = LARGEST, as_python_writes: bool = False) -> Any:
    """Reads a JSON file; see `decode_json`.

    Args:
        path: The file.
        limit: Bytes at most; no more of the file are read.
        as_python_writes: Take NaN, infinity and half a surrogate pair.

    Raises:
        BadInput: The file is missing or is not JSON.
    """
    data = read_bytes(path, limit + 1)
    return decode_json(data, str(path), limit=limit, as_python_writes=as_python_writes)


def link_or_copy(source: str | Path, target: str | Path) -> str:
    """A second name for a file that never changes, or a copy where the file system has no links; returns `target`."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
    return str(target)


@contextmanager
def new_folder(final: Path) -> Iterator[Path]:
    """Yields a temporary folder beside `final` that takes its place, flushed, when the block ends without error.

    Where `final` exists already (a content-addressed folder that another run finished first), it stays as it is.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(dir=final.parent, prefix=f".{final.name}."))
    try:
        yield draft
        sync_tree(draft)
        draft.chmod(0o755)
        if not final.exists():
            os.rename(draft, final)
            sync_folder(final.parent)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


@contextmanager
def scratch_folder(parent: Path) -> Iterator[Path]:
    """Yields a private folder below `parent` that is gone afterwards; killed owners' folders are removed first.

    The owner holds a lock that the kernel frees when the process dies, however it dies.
    """
    parent.mkdir(parents=True, exist_ok=True)
    for stale in parent.glob("*.lock"):
        with stale.open("ab") as held:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            shutil.rmtree(stale.with_suffix(""), ignore_errors=True)
            stale.unlink(missing_ok=True)
    lock, name = tempfile.mkstemp(dir=parent, suffix=".lock")
    folder = Path(name).with_suffix("")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        folder.mkdir()
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        Path(name).unlink(missing_ok=True)
        os.close(lock)


def canonical_json(value: Any) -> bytes:
    """The one byte string that stands for a JSON value when it is hashed or signed."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False).encode()


def sha256_bytes(data: bytes) -> str:
    """Hex SHA-256 of bytes."""
    return hashlib.sha256(data).hexdigest()


def sha256_json(value: Any) -> str:
    """Hex SHA-256 of the canonical form of a JSON value: the content key of a step's inputs."""
    return sha256_bytes(canonical_json(value))


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tree_manifest(folder: Path) -> dict[str, str]:
    """Relative POSIX path -> hex SHA-256 for every file below `folder`."""
    files = (p for p in folder.rglob("*") if p.is_file())
    return {p.relative_to(folder).as_posix(): sha256_file(p) for p in sorted(files)}


def sha256_tree(folder: Path) -> str:
    """One digest for the names and contents of all files below `folder`."""
    return sha256_json(tree_manifest(folder))


def require_free_space(path: Path, needed: int, purpose: str) -> None:
    """Stops before work starts that the disk has no room for.

    Args:
        path: Where the work writes; it need not exist yet.
        needed: Bytes.
        purpose: What needs the room, for the message.

    Raises:
        BadInput: Less than `needed` bytes are free.
    """
    probe = path
    while not probe.exists():
        probe = probe.parent
    free = shutil.disk_usage(probe).free
    if free < needed:
        raise BadInput(
            f"{purpose} needs {needed / 1e9:.1f} GB below {path}, {free / 1e9:.1f} GB are free: "
            "make room (`posa doctor` shows what takes it) or set POSA_HOME to a larger disk"
        )


def safe_join(folder: Path, relative: str) -> Path:
    """Joins a path from outside (metadata, a manifest) to a folder that it may not leave.

    Raises:
        BadInput: The path is absolute or climbs out of `folder`, by a link perhaps, or is none.
    """
    if relative.startswith("/") or ".." in Path(relative).parts or not relative:
        raise BadInput(f"path {relative!r} leaves {folder}: only paths inside the folder are allowed")
    try:
        joined = (folder / relative).resolve()
    except (OSError, ValueError, RuntimeError):
        raise BadInput(f"path {relative[:200]!r} below {folder} is none that a file system can have") from None
    if not joined.is_relative_to(folder.resolve()):
        raise BadInput(
            f"path {relative!r} leaves {folder} through a link: only paths inside the folder are allowed; "
            "`cp -rL` copies a folder of links, such as Hugging Face's cache, with what they point at"
        )
    return folder / relative
