"""A working clone of the workspace repository, and git and DVC in it: the one module that speaks to DVC."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from posa_vla.console import say
from posa_vla.dataset.versions.dvc_objects import OBJECTS, complete, episodes_object, is_sound, listed, object_path
from posa_vla.dataset.versions.history_tools import require_tools
from posa_vla.dataset.versions.remote_owners import leave_mark
from posa_vla.errors import BadInput, PosaError
from posa_vla.files import new_folder, read_text, scratch_folder, write_text
from posa_vla.objects.directory import DirectoryObjects
from posa_vla.objects.open import open_objects
from posa_vla.processes import dies_with_parent, end_tree
from posa_vla.shell import environment
from posa_vla.workspace import Workspace
from posa_vla.workspace_template import template_file
from posa_vla.yaml_file import read_yaml

# Human names of versions: tags of the workspace repository.
NAME = "data-v"
# How often another run may push first before this one gives up.
_PUSHES = 20


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
        kept = environment(workspace.settings)
        self._environment = {
            **kept,
            # `python` of the stages is this interpreter.
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), kept.get("PATH", os.defpath)]),
            "GIT_CONFIG_GLOBAL": str(scratch / "gitconfig"),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_TERMINAL_PROMPT": "0",
            # Messages that are read here must not be translated.
            "LC_ALL": "C.UTF-8",
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
                encoding="utf-8",
                errors="replace",
                preexec_fn=dies_with_parent(signal.SIGTERM),
            )
        except FileNotFoundError:
            raise BadInput(
                f"the program {command[0]!r} is not there: install it (Debian, Ubuntu: apt-get install {command[0]})"
            ) from None
        lines = []
        assert process.stdout is not None  # for the type checker: it is a pipe
        with process:
            try:
                for line in process.stdout:
                    lines.append(line)
                    if show and line.startswith(("validate:", "prepare:")):
                        say(line.rstrip())
            except BaseException:
                end_tree(process.pid)
                raise
        return process.returncode, "".join(lines)

    def git(self, *arguments: str, folder: Path | None = None) -> str:
        """Runs git; returns its output.

        Raises:
            PosaError: The command failed.
        """
        code, output = self._run(["git", *arguments], folder or self.folder)
        if code:
            raise PosaError(f"git {' '.join(arguments)} failed in {self._workspace.repository}: {output.strip()}")
        return output.strip()

    def dvc(self, *arguments: str) -> None:
        """Runs DVC.

        Raises:
            BadInput: A stage met bad input.
            PosaError: The command failed.
        """
        require_tools()
        code, output = self._run([sys.executable, "-P", "-m", "dvc", *arguments], self.folder, show=True)
        if code == 0:
            return
        lines = output.splitlines()
        stage_errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
        # Without `--quiet`, which leaves out the reason too.
        own_errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
        message = stage_errors[-1] if stage_errors else "; ".join(own_errors) or output.strip()[-2000:]
        kind = BadInput if "exited with 2" in output else PosaError
        raise kind(f"dvc {' '.join(arguments)} failed: {message}")

    def run_stage(self, stage: str, code: Path) -> None:
        """Runs a stage of this clone's dvc.yaml by the code of another checkout, without DVC.

        Args:
            stage: Name of the stage.
            code: Root of the other checkout.

        Raises:
            PosaError: The stage is missing, or its command failed.
        """
        python, *arguments = self.stage_command(stage)
        command = [sys.executable if python == "python" else python, *arguments]
        before, self._environment = self._environment, {**self._environment, "PYTHONPATH": str(code)}
        try:
            exit_code, output = self._run(command, self.folder, show=True)
        finally:
            self._environment = before
        if exit_code:
            raise PosaError(f"stage {stage!r} of dvc.yaml with the code in {code} failed: {output.strip()[-1000:]}")

    def stage_command(self, stage: str) -> list[str]:
        """The command of a stage of this clone's dvc.yaml, split into its words.

        Raises:
            PosaError: There is no such stage.
        """
        stages = read_yaml(self.folder / "dvc.yaml")["stages"]
        if stage not in stages:
            raise PosaError(
                f"dvc.yaml of this version has no stage {stage!r}, only {', '.join(stages)}: check out the code that "
                "made the version, and run this again there"
            )
        return shlex.split(stages[stage]["cmd"])

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
            write_text(self.folder / "dvc.yaml", read_text(template_file("dvc.yaml")))

    def versions(self) -> dict[str, str]:
        """Version -> commit of all versions in the workspace repository."""
        listed = self.git("for-each-ref", "--format=%(refname:lstrip=4) %(objectname)", "refs/remotes/origin/data")
        return dict(line.split() for line in listed.splitlines())

    def fsck(self) -> list[str]:
        """What git finds wrong in the repository; empty where the repository is sound."""
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
        refused = ""
        for _ in range(_PUSHES):
            number = max((int(name.removeprefix(NAME)) for name in self.names()), default=0) + 1
            name = f"{NAME}{number}"
            refs = ("HEAD:refs/heads/main", f"HEAD:refs/heads/data/{version}", f"HEAD:refs/tags/{name}")
            before = self._refs()
            try:
                self.git("push", "--quiet", "--atomic", "origin", *refs)
            except PosaError as error:
                refused = str(error)
                self.git("fetch", "--quiet", "--tags", "origin")
                # Git says "failed to push" of a full disk too. It was another run if something has moved, or if
                # something is being moved at this moment.
                if self._refs() == before and "cannot lock ref" not in refused:
                    raise
                if "refs/remotes/origin/main" in self._refs():
                    message = self.git("log", "-1", "--format=%B")
                    self.git("reset", "--quiet", "--soft", "origin/main")
                    self.git("commit", "--quiet", "--allow-empty", "--message", message)
                continue
            return name
        raise PosaError(f"{self._workspace.repository} took nothing in {_PUSHES} attempts; run again. {refused}")

    def _refs(self) -> str:
        """What this clone knows of the repository's branches and tags."""
        return self.git("for-each-ref", "refs/remotes/origin", "refs/tags")

    def push(self) -> None:
        """Pushes the episodes' bytes, and sees that all of them arrived.

        DVC believes that a folder was pushed as soon as the remote has its listing, even where files are missing.

        Raises:
            PosaError: The remote does not answer, or an object is missing or damaged in both cache and remote.
        """
        remote = self._workspace.dvc_remote
        try:
            leave_mark(self._workspace)
            self.dvc("push")
            if lacking := complete(open_objects(remote), self._workspace.dvc_cache, self._episodes()):
                say(f"{remote} lacked {lacking} objects that DVC took for pushed; they are there now")
        except BadInput:
            raise
        except (PosaError, OSError) as error:
            raise PosaError(
                f"the data did not get to the DVC remote {remote} (POSA_DVC_REMOTE): {error}; no version was made: "
                "once the remote is there, the same command continues"
            ) from error

    def restore_episodes(self) -> None:
        """Puts the episodes of the commit that is checked out below `data/episodes`, from the cache or the remote.

        Objects of the cache are compared with their names first, and damaged ones fetched again: a batch in the store,
        its object in the cache and its place in a clone are one file, and what damages one damages all.

        Raises:
            PosaError: The cache lacks an object, and the remote does not answer, lacks that object or has it damaged.
        """
        # DVC fetches what is not there, and trusts what is; only with the listing is it known what that must be.
        for _ in range(2):
            unsound = self._unsound()
            if not unsound:
                break
            damaged = [place for place in map(self._cached, unsound) if place.is_file()]
            for place in damaged:
                place.unlink()
            if damaged:
                say(f"{len(damaged)} damaged objects of the cache are fetched again")
            try:
                self.dvc("fetch", "data/episodes.dvc")
            except BadInput:
                raise
            except PosaError as error:
                self._require_cached(str(error))
        self._require_cached("DVC fetched nothing, and says nothing")
        self.dvc("checkout", "data/episodes.dvc")

    def _require_cached(self, problem: str) -> None:
        """Stops where the cache lacks something after a fetch; the remote's own objects tell why.

        Args:
            problem: What DVC says; it names objects, not files, and at times nothing.
        """
        unsound = self._unsound()
        if not unsound:
            return
        location = self._workspace.dvc_remote
        lost: list[str] = []
        try:
            remote = open_objects(location)
            if next(iter(remote.stored(OBJECTS)), None) is None:
                # A disk that is not mounted is an empty folder, in which DVC makes more.
                problem = "it holds no object at all, as if it were not mounted or another place"
            else:
                lost = [name for name in unsound if not is_sound(remote, name)]
        except (PosaError, OSError) as trouble:
            problem = str(trouble)
        if lost:
            raise PosaError(
                f"{location}/{object_path(lost[0])} is missing or damaged, and the cache has no sound copy "
                f"({len(lost)} such): restore the remote from its backup; nothing was changed here"
            )
        raise PosaError(
            f"the DVC remote {location} (POSA_DVC_REMOTE) does not hand out what the cache lacks: {problem}; the store "
            "was not changed: once the remote is there, the same command continues"
        )

    def _episodes(self) -> str:
        """Name of the object that lists the episodes of the commit that is checked out."""
        return episodes_object(read_text(self.folder / "data/episodes.dvc"))

    def _cached(self, name: str) -> Path:
        return self._workspace.dvc_cache / object_path(name)

    def _unsound(self) -> list[str]:
        """The episodes' objects that are not in the cache, or are not what their names say."""
        cache, root = DirectoryObjects(self._workspace.dvc_cache), self._episodes()
        return [name for name in (root, *(listed(root, [cache]) or ())) if not is_sound(cache, name)]


@contextmanager
def open_clone(workspace: Workspace, commit: str = "") -> Iterator[Clone]:
    """Yields a clone of the workspace repository, at a commit or at the newest one; the clone is deleted afterwards.

    Raises:
        PosaError: git failed.
    """
    with scratch_folder(workspace.clones) as scratch:
        clone = Clone(workspace, scratch)
        clone.open(commit)
        yield clone
