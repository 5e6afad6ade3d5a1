"""`posa doctor`: what is there, and whether it is sound."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from posa_vla.cli.doctor.finding import Finding
from posa_vla.cli.doctor.records import look_at_records
from posa_vla.cli.doctor.releases import look_at_releases
from posa_vla.cli.options import AsJson
from posa_vla.errors import to_install

if TYPE_CHECKING:
    from posa_vla.workspace import Workspace

_PLATFORM = ("ray", "mlflow", "dvc", "prefect")
_SIMULATORS = ("mujoco", "mink", "gymnasium")
_LOW_DISK = 2_000_000_000


def _python(workspace: Workspace) -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    fits = (3, 11) <= sys.version_info[:2] < (3, 13)
    return Finding("python", "sound" if fits else "unsound", f"{version}, expected 3.11 or 3.12")


def _torch(workspace: Workspace) -> Finding:
    import torch

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    return Finding("torch", "sound", f"{torch.__version__}, {device}")


def _packages(name: str, packages: tuple[str, ...]) -> Callable[[Workspace], Finding]:
    def look(workspace: Workspace) -> Finding:
        missing = [package for package in packages if importlib.util.find_spec(package) is None]
        if len(missing) == len(packages):
            return Finding(name, "absent", f"not installed: {to_install(name)}")
        if missing:
            return Finding(name, "unsound", f"missing {', '.join(missing)}: make setup")
        return Finding(name, "sound", ", ".join(packages))

    return look


def _gl(workspace: Workspace) -> Finding:
    from posa_vla.sim.gl import require_gl

    require_gl()
    return Finding("GL", "sound", f"MUJOCO_GL={os.environ['MUJOCO_GL']}")


def _git(workspace: Workspace) -> Finding:
    if shutil.which("git") is None:
        return Finding("git", "unsound", "not installed: sudo apt-get install git")
    version = subprocess.run(["git", "--version"], capture_output=True, encoding="utf-8", check=True).stdout.strip()
    return Finding("git", "sound", version)


def _code(workspace: Workspace) -> Finding:
    from posa_vla.code_root import CODE_ROOT
    from posa_vla.release.code_state import code_state

    code = code_state(workspace.settings)
    if code.commit is None:
        return Finding("code", "absent", f"{CODE_ROOT} is no git checkout: records name no commit of the code")
    changed = " with changes that no commit holds" if code.dirty else ""
    return Finding("code", "sound", f"{CODE_ROOT}, commit {code.commit[:12]}{changed}")


def _machine(workspace: Workspace) -> Finding:
    from posa_vla.machine import memory, processors
    from posa_vla.ray_cluster import require_cluster

    if importlib.util.find_spec("ray") is not None:
        require_cluster(workspace.settings)
    return Finding("machine", "sound", f"{processors()} processors to use, {memory() / 1e9:.1f} GB of memory free")


def _disk(workspace: Workspace) -> Finding:
    place = next(p for p in (workspace.home, *workspace.home.parents) if p.exists())
    free = shutil.disk_usage(place).free
    return Finding("disk", "sound" if free > _LOW_DISK else "unsound", f"{free / 1e9:.1f} GB free at {place}")


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def _workspace(workspace: Workspace) -> Finding:
    if not workspace.home.exists():
        return Finding("workspace", "absent", f"{workspace.home} is not there yet: posa retrain --preset demo")
    parts = {path.name: _size(path) for path in workspace.home.iterdir() if path.is_dir()}
    largest = ", ".join(f"{name} {size / 1e6:.0f} MB" for name, size in sorted(parts.items(), key=lambda x: -x[1])[:4])
    return Finding("workspace", "sound", f"{workspace.home}, {sum(parts.values()) / 1e6:.0f} MB ({largest})")


def _lock(workspace: Workspace) -> Finding:
    if not workspace.home.exists():
        return Finding("lock", "absent", "no workspace")
    holder = workspace.holder()
    return Finding("lock", "sound", "free" if holder is None else f"held by {holder}")


def _ledger(workspace: Workspace) -> Finding:
    from posa_vla.ledger import Ledger

    count = sum(1 for _ in Ledger(workspace).entries())
    if not count:
        return Finding("ledger", "absent", "no finished step")
    return Finding("ledger", "sound", f"{count} finished steps")


def _promotions(workspace: Workspace) -> Finding:
    from posa_vla.promotion.champion import has_published, open_publisher, require_anchored_log
    from posa_vla.promotion.log import PromotionLog

    logs = sorted(workspace.promotions.glob("*/log.jsonl"))
    if not logs:
        return Finding("promotion log", "absent", "nothing decided yet")
    entries = 0
    for path in logs:
        log = PromotionLog(path)
        log.verify()
        entries += len(log.entries())
    held = ""
    if has_published(workspace):
        publisher = open_publisher(workspace)
        for path in logs:
            require_anchored_log(workspace, path.parent.name, publisher)
        held = ", as the signed records and the channel have it"
    return Finding("promotion log", "sound", f"{entries} entries of {len(logs)} targets, chain whole{held}")


def _artifacts(workspace: Workspace) -> Finding:
    from posa_vla.artifact_places import database_file, follow_move, places_elsewhere

    database = database_file(workspace.mlflow_uri)
    if database is None or not database.is_file():
        return Finding("MLflow's files", "absent", "no database in the workspace")
    moved = follow_move(database)
    elsewhere = places_elsewhere(database)
    if elsewhere:
        return Finding(
            "MLflow's files",
            "unsound",
            f"{elsewhere[0]} ({len(elsewhere)} such): move the files to {database.parent / 'artifacts'} and look again",
        )
    return Finding(
        "MLflow's files", "sound", f"below {database.parent}" + (f", moved from {moved[0]}" if moved else "")
    )


def _bundles(workspace: Workspace) -> Finding:
    from posa_vla.release.bundle import verify_bundle

    bundles = [path for path in sorted(workspace.bundles.glob("*")) if not path.name.startswith(".")]
    for folder in bundles:
        verify_bundle(folder, folder.name)
    if not bundles:
        return Finding("bundles", "absent", "none yet")
    return Finding("bundles", "sound", f"{len(bundles)}, every file as its digest says")


LOOKS: list[tuple[str, Callable[[Workspace], Finding]]] = [
    ("python", _python),
    ("torch", _torch),
    ("platform", _packages("platform", _PLATFORM)),
    ("sim", _packages("sim", _SIMULATORS)),
    ("GL", _gl),
    ("git", _git),
    ("code", _code),
    ("machine", _machine),
    ("disk", _disk),
    ("workspace", _workspace),
    ("lock", _lock),
    ("ledger", _ledger),
    ("bundles", _bundles),
    ("promotion log", _promotions),
    ("records", look_at_records),
    ("releases", look_at_releases),
    ("MLflow's files", _artifacts),
]


def examine(workspace: Workspace) -> Iterator[Finding]:
    """Looks at one thing after the other; what cannot be looked at is unsound, with the reason."""
    from posa_vla.cli.doctor.servers import examine_servers
    from posa_vla.errors import PosaError

    for name, look in LOOKS:
        try:
            yield look(workspace)
        except (PosaError, ImportError, OSError, subprocess.CalledProcessError) as error:
            yield Finding(name, "unsound", str(error))
    yield from examine_servers(workspace.settings)


def doctor(as_json: AsJson = False) -> None:
    """Check packages, workspace and servers; exit with 1 if something is not sound."""
    from posa_vla.console import print_json, print_table
    from posa_vla.workspace import Workspace

    findings = list(examine(Workspace.open()))
    sound = all(finding.status != "unsound" for finding in findings)
    if as_json:
        print_json({"sound": sound, "findings": [vars(finding) for finding in findings]})
    else:
        print_table("posa doctor", [(f"{finding.name} ({finding.status})", finding.detail) for finding in findings])
    if not sound:
        raise typer.Exit(1)
