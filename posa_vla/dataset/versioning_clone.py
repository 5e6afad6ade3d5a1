"""A working clone of the workspace repository, and git and DVC in it: the one module that speaks to DVC."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import yaml

from posa_vla.console import say
from posa_vla.errors import BadInput, PosaError
from posa_vla.files import new_folder, read_json, scratch_folder, write_text
from posa_vla.objects import open_objects
from posa_vla.workspace import Workspace

# Human names of versions: tags of the workspace repository.
NAME = "data-v"
# How often another run may push first before this one gives up.
_PUSHES = 20


def stages_file() -> Path:
    """`dvc.yaml` of the checkout, or the copy that an installed package carries."""
    package = Path(__file__).parent.parent
    places = [package / "workspace_template" / "dvc.yaml", package.parent / "dvc.yaml"]
    for place in places:
        if place.is_file():
            return place
    raise BadInput(f"dvc.yaml is neither at {places[0]} nor at {places[1]}: install posa-vla again")


class Clone:
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
            # The stages keep what they found of a batch there.
            "POSA_HOME": str(workspace.home),
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

    def run_posa(self, code: Path, arguments: Sequence[str]) -> None:
        """Runs the `posa` of another checkout in this clone.

        Raises:
            PosaError: It failed.
        """
        command = [sys.executable, "-m", "posa_vla.cli.main", *arguments]
        before, self._environment = self._environment, {**self._environment, "PYTHONPATH": str(code)}
        try:
            exit_code, output = self._run(command, self.folder, show=True)
        finally:
            self._environment = before
        if exit_code:
            raise PosaError(f"posa {' '.join(arguments[:2])} with the code in {code} failed: {output.strip()[-1000:]}")

    def open(self, commit: str = "") -> None:
        """Clones the repository, which is made where there is none, at a commit or at the newest.

        Its configuration is brought up to date; its stages are the commit's where there is one, else this code's.
        """
        repository = self._workspace.repository
        if not repository.exists():
            with new_folder(repository) as draft:
                self.git("init", "--quiet", "--bare", str(draft), folder=draft)
        self.git("clone", "--quiet", str(repository), str(self.folder), folder=self.folder.parent)
        if commit:
            self.git("checkout", "--quiet", "--detach", commit)
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
        write_text(self.folder / ".gitignore", "/data/prepared\n/.posa\n")
        if not commit:
            write_text(self.folder / "dvc.yaml", stages_file().read_text())

    def versions(self) -> dict[str, str]:
        """Version -> commit of all versions in the workspace repository."""
        listed = self.git("for-each-ref", "--format=%(refname:lstrip=4) %(objectname)", "refs/remotes/origin/data")
        return dict(line.split() for line in listed.splitlines())

    def fsck(self) -> list[str]:
        """What git finds wrong in the repository; nothing where it is sound."""
        code, output = self._run(["git", "fsck", "--no-progress", "--no-dangling"], self._workspace.repository)
        return [line for line in output.splitlines() if line.strip()] if code else []

    def names(self) -> dict[str, str]:
        """Human name -> commit of all versions, oldest first."""
        listed = self.git("for-each-ref", "--format=%(refname:lstrip=2) %(objectname)", f"refs/tags/{NAME}*")
        found = dict(line.split() for line in listed.splitlines())
        numbered = {int(name.removeprefix(NAME)): name for name in found if name.removeprefix(NAME).isdigit()}
        return {numbered[number]: found[numbered[number]] for number in sorted(numbered)}

    def publish(self, version: str) -> str:
        """Commits the clone as a version, names it, and pushes all of it at once; returns its name.

        Another run may push at the same time: then this one's commit goes on top of the other's.

        Raises:
            PosaError: The repository refuses for another reason.
        """
        for _ in range(_PUSHES):
            number = max((int(name.removeprefix(NAME)) for name in self.names()), default=0) + 1
            name = f"{NAME}{number}"
            refs = ("HEAD:refs/heads/main", f"HEAD:refs/heads/data/{version}", f"HEAD:refs/tags/{name}")
            try:
                self.git("push", "--quiet", "--atomic", "origin", *refs)
            except PosaError as error:
                if not any(word in str(error) for word in ("rejected", "cannot lock ref", "failed to push")):
                    raise
                self.git("fetch", "--quiet", "--tags", "origin")
                message = self.git("log", "-1", "--format=%B")
                self.git("reset", "--quiet", "--soft", "origin/main")
                self.git("commit", "--quiet", "--allow-empty", "--message", message)
                continue
            return name
        raise PosaError(f"{self._workspace.repository}: other runs pushed {_PUSHES} times meanwhile; run again")

    def objects(self) -> set[str]:
        """Paths, in DVC's cache and remote, of everything that any commit of the repository names.

        Raises:
            PosaError: A listing of a folder is in neither: what it names could not be told from what nobody needs.
        """
        named: set[str] = set()
        remote = open_objects(self._workspace.dvc_remote)
        for commit in self.git("rev-list", "--all").split():
            for path in ("data/episodes.dvc", "dvc.lock"):
                if path in self.git("ls-tree", "-r", "--name-only", commit, "--", path):
                    named.update(re.findall(r"md5: ([0-9a-f]{32}(?:\.dir)?)", self.git("show", f"{commit}:{path}")))
        paths = {object_path(name) for name in named}
        for name in named:
            if name.endswith(".dir"):
                place = self._workspace.dvc_cache / object_path(name)
                data = place.read_bytes() if place.is_file() else remote.get(object_path(name))
                if data is not None:
                    paths |= {object_path(entry["md5"]) for entry in json.loads(data)}
                elif self._is_episodes(name):
                    raise PosaError(f"{object_path(name)} is in neither cache nor remote: `posa data verify` says more")
        return paths

    def _is_episodes(self, name: str) -> bool:
        """Whether some commit's episodes are the folder of this name; prepared folders are not kept by DVC."""
        return bool(self.git("log", "--all", "--format=%H", f"-S{name}", "--", "data/episodes.dvc"))

    def restore_episodes(self) -> None:
        """Puts the episodes of the commit that is checked out below `data/episodes`, from the cache or the remote.

        Objects of the cache are compared with their names first, and damaged ones fetched again: a batch in the store,
        its object in the cache and its place in a clone are one file, and what damages one damages all.

        Raises:
            PosaError: The remote does not have an object, or has a damaged one.
        """
        self._fetch()
        damaged = [place for place in self._unsound() if place.is_file()]
        for place in damaged:
            place.unlink()
        if damaged:
            say(f"{len(damaged)} damaged objects of the cache are fetched again")
            self._fetch()
        if unsound := self._unsound():
            path = unsound[0].relative_to(self._workspace.dvc_cache).as_posix()
            raise PosaError(
                f"{self._workspace.dvc_remote}/{path} is missing or damaged, and the cache has no sound copy "
                f"({len(unsound)} such): restore the remote from its backup; nothing was changed here"
            )
        self.dvc("checkout", "--quiet", "data/episodes.dvc")

    def _fetch(self) -> None:
        try:
            self.dvc("fetch", "--quiet", "data/episodes.dvc")
        except BadInput:
            raise
        except PosaError as error:
            # DVC names objects, not files, and at times nothing: what is missing then is looked up.
            if not self._unsound():
                raise
            say(str(error))

    def _unsound(self) -> list[Path]:
        """Places in the cache of the episodes' objects that are not there, or not what their names say."""
        cache = self._workspace.dvc_cache
        listed = yaml.safe_load((self.folder / "data/episodes.dvc").read_text())["outs"][0]["md5"]
        root = cache / object_path(listed)
        digests = {listed: root}
        if root.is_file() and _md5(root) == listed.removesuffix(".dir"):
            digests |= {entry["md5"]: cache / object_path(entry["md5"]) for entry in read_json(root)}
        return [p for d, p in digests.items() if not p.is_file() or _md5(p) != d.removesuffix(".dir")]


def object_path(md5: str) -> str:
    """Where DVC keeps content, by its hex MD5, in cache and remote."""
    return f"files/md5/{md5[:2]}/{md5[2:]}"


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


@contextmanager
def open_clone(workspace: Workspace, commit: str = "") -> Iterator[Clone]:
    """Yields a clone of the workspace repository, at a commit or at the newest; it is gone afterwards.

    Raises:
        PosaError: git failed.
    """
    with scratch_folder(workspace.clones) as scratch:
        clone = Clone(workspace, scratch)
        clone.open(commit)
        yield clone
