"""A digest of what Python code does, found by following its imports: the code's part in the keys of finished work."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from posa_vla.code_root import CODE_ROOT
from posa_vla.errors import BadInput
from posa_vla.files import sha256_bytes, sha256_file, sha256_json

_PACKAGES = ("posa_vla", "flows")

# Imports are followed up to these modules and not into them. Each says why it cannot change an outcome.
PLUMBING = {
    "flows": "puts steps together; each step digests the code that does its work",
    "posa_vla.artifact_places": "says where records lie",
    "posa_vla.cli": "reads what people type; the values stand in the keys themselves",
    "posa_vla.code_digest": "names code, and computes nothing of what is kept",
    "posa_vla.code_git": "says where the code comes from",
    "posa_vla.code_root": "says where the code lies",
    "posa_vla.console": "prints",
    "posa_vla.errors": "names of errors",
    "posa_vla.files": "writes files and hashes bytes; golden files pin the hashes",
    "posa_vla.interpreter": "says which code is imported; the code itself is digested",
    "posa_vla.json_reader": "refuses what is no JSON",
    "posa_vla.learning_params": "the values stand in the keys themselves",
    "posa_vla.ledger": "says what was done",
    "posa_vla.machine": "says what the machine has, which results may name and do not depend on",
    "posa_vla.objects": "carries bytes",
    "posa_vla.params": "the values stand in the keys themselves",
    "posa_vla.params_file": "the values stand in the keys themselves",
    "posa_vla.processes": "starts and ends processes",
    "posa_vla.ray_cluster": "starts the cluster",
    "posa_vla.ray_jobs": "starts and follows jobs",
    "posa_vla.run_page": "says what a page shows",
    "posa_vla.schema": "refuses what does not parse",
    "posa_vla.settings": "says where things lie",
    "posa_vla.shell": "keeps out what the shell holds",
    "posa_vla.tracking": "records what came out",
    "posa_vla.validation_params": "the values stand in the keys themselves",
    "posa_vla.weak_keys": "refuses keys",
    "posa_vla.workspace": "says where things lie",
    "posa_vla.workspace_template": "says where templates lie; DVC compares its stages itself",
    "posa_vla.yaml_file": "reads what people write; the values stand in the keys themselves",
}


@dataclass(frozen=True)
class _Source:
    """A file of Python: the digest of what it does, and the dotted names that it may import."""

    digest: str
    names: tuple[str, ...]


def code_digest(*roots: str, root: Path = CODE_ROOT) -> str:
    """A digest of what some code does, with all of ours that it imports; comments, docstrings, layout do not change it.

    Args:
        roots: Dotted names of modules, or of packages, which stand for every module in them.
        root: Folder that `posa_vla` and `flows` lie in.

    Raises:
        BadInput: There is no such module.
    """
    parts: dict[str, str] = {}
    for name, path in modules_of(*roots, root=root).items():
        parts[path.relative_to(root).as_posix()] = _source(path, name).digest
        for data in sorted(path.parent.glob("*")):
            if data.suffix in {".xml", ".yaml"}:
                parts[data.relative_to(root).as_posix()] = sha256_file(data)
    return sha256_json(parts)


def modules_of(*roots: str, root: Path = CODE_ROOT) -> dict[str, Path]:
    """The modules that `code_digest` of the same arguments digests, by dotted name.

    Imports inside functions count, and so does a string that is the dotted name of a module, which is how jobs are
    started. Imports for types alone (`if TYPE_CHECKING`) do not count. What only an import leads to, and `PLUMBING`
    names, is left out.

    Raises:
        BadInput: There is no such module.
    """
    found: dict[str, Path] = {}
    waiting = [module for name in roots for module in _members(name, root)]
    while waiting:
        name, path = waiting.pop()
        if name in found:
            continue
        found[name] = path
        for module in _imported(_source(path, name).names, root):
            if not _is_plumbing(module[0]):
                waiting.append(module)
    return dict(sorted(found.items()))


def _is_plumbing(name: str) -> bool:
    return any(name == plumbing or name.startswith(f"{plumbing}.") for plumbing in PLUMBING)


def _members(name: str, root: Path) -> Iterator[tuple[str, Path]]:
    """A module by its dotted name, or all modules of a package."""
    place = root / name.replace(".", "/")
    files = sorted(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]
    if not files or not files[0].is_file():
        raise BadInput(f"there is no code named {name!r} in {root}: expected a module or a package")
    for path in files:
        parts = path.relative_to(root).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def _module(name: str, root: Path) -> Path | None:
    place = root / name.replace(".", "/")
    for path in (place.with_suffix(".py"), place / "__init__.py"):
        if path.is_file():
            return path
    return None


def _imported(names: Iterable[str], root: Path) -> Iterator[tuple[str, Path]]:
    """The modules behind imported names, and the packages that Python imports on the way to them."""
    for name in names:
        parts = name.split(".")
        for length in range(2, len(parts) + 1):
            path = _module(".".join(parts[:length]), root)
            if path is not None:
                yield ".".join(parts[:length]), path


def _source(path: Path, name: str) -> _Source:
    state = path.stat()
    return _read(path, name, state.st_mtime_ns, state.st_size)


@cache  # a process digests the same files for every step
def _read(path: Path, name: str, mtime: int, size: int) -> _Source:
    tree = ast.parse(path.read_bytes(), str(path))
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    names: set[str] = set()
    skipped: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            skipped.update(id(inner) for statement in node.body for inner in ast.walk(statement))
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            node.value = ast.Constant(None)
        elif id(node) not in skipped:
            names.update(_names(node, package))
    ours = (item for item in names if item.partition(".")[0] in _PACKAGES)
    return _Source(sha256_bytes(ast.dump(tree).encode()), tuple(sorted(ours)))


def _names(node: ast.AST, package: str) -> Iterator[str]:
    """Dotted names that a node may import."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            parts = package.split(".")
            base = ".".join([*parts[: len(parts) - node.level + 1], *([base] if base else [])])
        yield from (f"{base}.{alias.name}" for alias in node.names)
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value if node.value.isascii() and node.value.replace(".", "").replace("_", "").isalnum() else ""
