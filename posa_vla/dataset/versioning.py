"""Versions of the data: DVC keeps the bytes, the workspace repository their history."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from posa_vla.console import progress, say
from posa_vla.episodes.embodiment import load_embodiment
from posa_vla.episodes.store import EpisodeStore
from posa_vla.errors import BadInput, PosaError
from posa_vla.files import (
    link_or_copy,
    new_folder,
    read_json,
    require_free_space,
    scratch_folder,
    sha256_json,
    sync_folder,
    sync_tree,
    tree_manifest,
    write_json,
    write_text,
)
from posa_vla.params import Params, write_params
from posa_vla.workspace import Workspace

# Commands that one version takes, for the progress bar.
_STEPS = 7


@dataclass(frozen=True)
class DataVersion:
    """A version of the training data.

    Attributes:
        version: Hex SHA-256 over the episodes and what was prepared from them.
        folder: The prepared data (manifest.json, normalisation.json, shards), read-only.
        episodes: Episodes in all splits.
        frames: Frames in all splits.
        commit: Commit of the workspace repository, on branch `data/<version>`.
        report: What validation found.
    """

    version: str
    folder: Path
    episodes: int
    frames: int
    commit: str
    report: dict[str, Any]


def _stages_file() -> Path:
    """`dvc.yaml` of the checkout, or the copy that an installed package carries."""
    package = Path(__file__).parent.parent
    places = [package / "workspace_template" / "dvc.yaml", package.parent / "dvc.yaml"]
    for place in places:
        if place.is_file():
            return place
    raise BadInput(f"dvc.yaml is neither at {places[0]} nor at {places[1]}: install posa-vla again")


class _Clone:
    """A working clone of the workspace repository and the tools in it.

    The environment keeps out a user's git and DVC configuration: an ignore rule for `*.lock` alone would stop DVC.
    """

    def __init__(self, workspace: Workspace, scratch: Path) -> None:
        self.folder = scratch / "repository"
        self._workspace = workspace
        write_text(
            scratch / "gitconfig",
            "[user]\n\tname = posa\n\temail = posa@localhost\n[safe]\n\tdirectory = *\n"
            "[init]\n\tdefaultBranch = main\n[core]\n\texcludesFile = /dev/null\n\thooksPath = /dev/null\n"
            "[commit]\n\tgpgSign = false\n",
        )
        for name in ("dvc-system", "dvc-global", "dvc-site"):
            (scratch / name).mkdir()
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("GIT_", "DVC_"))}
        package_root = str(Path(__file__).parents[2])
        self._environment = {
            **kept,
            # `python` of the stages is this interpreter, and finds this very package.
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), kept.get("PATH", os.defpath)]),
            "PYTHONPATH": os.pathsep.join(filter(None, [package_root, kept.get("PYTHONPATH", "")])),
            "GIT_CONFIG_GLOBAL": str(scratch / "gitconfig"),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_TERMINAL_PROMPT": "0",
            "DVC_NO_ANALYTICS": "1",
            "DVC_STUDIO_OFFLINE": "1",
            "DVC_SYSTEM_CONFIG_DIR": str(scratch / "dvc-system"),
            "DVC_GLOBAL_CONFIG_DIR": str(scratch / "dvc-global"),
            "DVC_SITE_CACHE_DIR": str(scratch / "dvc-site"),
        }

    def _run(self, command: Sequence[str], folder: Path, *, show: bool = False) -> tuple[int, str]:
        """Exit code and output; `show` passes the lines of standard error on as they come."""
        try:
            process = subprocess.Popen(
                command,
                cwd=folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
            )
        except FileNotFoundError:
            raise BadInput(
                f"the program {command[0]!r} is not there: install it (Debian, Ubuntu: apt-get install {command[0]})"
            ) from None
        lines = []
        assert process.stdout is not None  # for the type checker: it is a pipe
        with process:
            for line in process.stdout:
                lines.append(line)
                if show and line.startswith(("validate:", "prepare:")):
                    say(line.rstrip())
        return process.returncode, "".join(lines)

    def git(self, *arguments: str, folder: Path | None = None) -> str:
        """Runs git; returns its output.

        Raises:
            PosaError: It failed.
        """
        code, output = self._run(["git", *arguments], folder or self.folder)
        if code:
            raise PosaError(f"git {' '.join(arguments)} failed in {self._workspace.repository}: {output.strip()}")
        return output.strip()

    def dvc(self, *arguments: str) -> None:
        """Runs DVC.

        Raises:
            BadInput: A stage met bad input.
            PosaError: It failed.
        """
        code, output = self._run([sys.executable, "-m", "dvc", *arguments], self.folder, show=True)
        if code == 0:
            return
        if "No module named dvc" in output:
            raise BadInput("versioning needs DVC: pip install 'posa-vla[platform]'")
        stage_errors = [line.removeprefix("error: ") for line in output.splitlines() if line.startswith("error: ")]
        message = stage_errors[-1] if stage_errors else output.strip()[-2000:]
        kind = BadInput if "exited with 2" in output else PosaError
        raise kind(f"dvc {' '.join(arguments)} failed: {message}")

    def open(self) -> None:
        """Clones the repository, which is made where there is none, and brings its configuration up to date."""
        repository = self._workspace.repository
        if not repository.exists():
            with new_folder(repository) as draft:
                self.git("init", "--quiet", "--bare", str(draft), folder=draft)
        self.git("clone", "--quiet", str(repository), str(self.folder), folder=self.folder.parent)
        write_text(
            self.folder / ".dvc" / "config",
            "[core]\n    remote = default\n    analytics = false\n    check_update = false\n"
            f"['remote \"default\"']\n    url = {self._workspace.dvc_remote}\n    verify = true\n",
        )
        write_text(self.folder / ".dvc" / ".gitignore", "/config.local\n/tmp\n/cache\n")
        # Only in this clone, where nobody edits files: links into the shared cache instead of copies.
        write_text(
            self.folder / ".dvc" / "config.local",
            f"[cache]\n    dir = {self._workspace.dvc_cache}\n    type = hardlink,copy\n",
        )
        # DVC ignores what it caches; this it does not.
        write_text(self.folder / ".gitignore", "/data/prepared\n")
        write_text(self.folder / "dvc.yaml", _stages_file().read_text())

    def versions(self) -> dict[str, str]:
        """Version -> commit of all versions in the workspace repository."""
        listed = self.git("for-each-ref", "--format=%(refname:lstrip=4) %(objectname)", "refs/remotes/origin/data")
        return dict(line.split() for line in listed.splitlines())


def _place_episodes(store: EpisodeStore, target: Path) -> None:
    """Puts the store's batches below `target` as links: batches never change, so one copy of the bytes serves all."""
    for batch in store.batches():
        shutil.copytree(store.folder(batch), target / "batches" / batch, copy_function=link_or_copy)


def _place_prepared(workspace: Workspace, clone: _Clone, versions: dict[str, str]) -> None:
    """Puts what the newest commit was prepared to back in its place: DVC redoes it only if an input changed."""
    newest = clone.git("rev-parse", "HEAD") if versions else None
    for version, commit in versions.items():
        if commit == newest and (workspace.data / version).is_dir():
            shutil.copytree(workspace.data / version, clone.folder / "data" / "prepared", copy_function=link_or_copy)


def _publish(prepared: Path, final: Path) -> None:
    """Moves the prepared data to where it stays; the bytes are never copied."""
    if not final.exists():
        sync_tree(prepared)
        final.parent.mkdir(parents=True, exist_ok=True)
        os.rename(prepared, final)
        sync_folder(final.parent)


def version_data(workspace: Workspace, params: Params) -> DataVersion:
    """Validates and prepares the store under DVC, pushes its bytes, and commits where they came from.

    Works in a clone of its own, which goes when it is done; what a killed call left is removed by the next one. The
    caller holds the workspace's lock.

    Args:
        workspace: Whose store is versioned.
        params: Written into the commit; `prepare` and the target's embodiment decide the outcome.

    Raises:
        BadInput: The store is empty or has nothing to learn from, git is missing, the disk has no room.
        PosaError: git or DVC failed.
    """
    store = EpisodeStore(workspace.store)
    if not store.batches():
        raise BadInput(f"{store.root} holds no episodes: collect some with `posa data collect`")
    embodiment = load_embodiment(params.chosen.embodiment)
    size = sum(p.stat().st_size for p in store.root.rglob("*") if p.is_file())
    require_free_space(workspace.home, 2 * size, "versioning the data")
    with scratch_folder(workspace.clones) as scratch, progress("version", _STEPS, unit="step") as advance:
        clone = _Clone(workspace, scratch)
        clone.open()
        write_params(clone.folder / "params.yaml", params)
        write_json(clone.folder / "embodiment.json", embodiment.model_dump(mode="json"))
        versions = clone.versions()
        _place_prepared(workspace, clone, versions)
        _place_episodes(store, clone.folder / "data" / "episodes")
        advance(1, "dvc add")
        clone.dvc("add", "--quiet", "data/episodes")
        advance(1, "dvc repro")
        clone.dvc("repro")
        advance(1, "hash")
        data = clone.folder / "data"
        report, manifest = read_json(data / "report.json"), read_json(data / "prepared" / "manifest.json")
        version = sha256_json({"episodes": store.digest(), "prepared": tree_manifest(data / "prepared")})
        advance(1, "dvc push")
        clone.dvc("push", "--quiet")
        advance(1, "commit")
        commit = versions.get(version)
        if commit is None:
            splits = manifest["splits"].values()
            clone.git("add", "--all")
            message = f"Data {version[:12]}: {sum(s['episodes'] for s in splits)} episodes"
            clone.git("commit", "--quiet", "--allow-empty", "--message", message)
            clone.git(
                "push", "--quiet", "--atomic", "origin", "HEAD:refs/heads/main", f"HEAD:refs/heads/data/{version}"
            )
            commit = clone.git("rev-parse", "HEAD")
        advance(1, "publish")
        _publish(data / "prepared", workspace.data / version)
        advance(1, version[:12])
    return DataVersion(
        version=version,
        folder=workspace.data / version,
        episodes=sum(split["episodes"] for split in manifest["splits"].values()),
        frames=sum(split["frames"] for split in manifest["splits"].values()),
        commit=commit,
        report=report,
    )
