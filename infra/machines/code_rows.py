"""Rows: where the code lies, and what git can say of it there."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from machine_row import ROOT, Absent, Done, Place, row

_CODE = ("posa_vla", "flows", "params.yaml", "dvc.yaml", "pyproject.toml", "requirements.lock")
# Stops a retraining when everything has been looked at and nothing has been started.
_NO_ROOM = ("retrain", "--preset", "tiny", "--set", "collect.episodes=2000000000")


def copy_of_code(place: Place) -> Path:
    """The code without its repository, in a folder beside the place, which then runs it."""
    copy = place.folder.parent / "code"
    copy.mkdir()
    for name in _CODE:
        copied = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copied(ROOT / name, copy / name)
    place.code = copy
    return copy


def git(folder: Path, *arguments: str) -> str:
    who = ("-c", "user.name=row", "-c", "user.email=row@example.org")
    variables = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "-C", str(folder), *who, *arguments]
    return subprocess.run(command, env=variables, check=True, capture_output=True, encoding="utf-8").stdout.strip()


def repository(folder: Path) -> str:
    """Makes a folder a repository with one commit; returns the commit."""
    git(folder, "init", "--quiet")
    git(folder, "commit", "--quiet", "--allow-empty", "--message", "first")
    return git(folder, "rev-parse", "HEAD")


def code_of(done: Done) -> str:
    """What the doctor's document says of the code."""
    return str(next(finding["detail"] for finding in done.json()["findings"] if finding["name"] == "code"))


@row("GIT_DIR and GIT_WORK_TREE of another repository, as a git hook has them", slow=True)
def git_hook(place: Place) -> None:
    other = place.folder.parent / "other"
    other.mkdir()
    theirs = repository(other)
    hook = {"GIT_DIR": str(other / ".git"), "GIT_WORK_TREE": str(other), "GIT_INDEX_FILE": str(other / ".git/index")}
    told = code_of(place.posa("doctor", "--json", shell=hook))
    assert theirs[:12] not in told, f"the commit of another repository is recorded: {told}"
    assert git(ROOT, "rev-parse", "HEAD")[:12] in told, told


@row("the code as a zip, without .git, in the folder of another repository", slow=True)
def zip_without_git(place: Place) -> None:
    theirs = repository(place.folder.parent)
    copy_of_code(place)
    done = place.posa(*_NO_ROOM).refused("is no git checkout", "POSA_CODE_COMMIT", "are free")
    assert theirs[:12] not in done.err


@row("git init without a commit", slow=True)
def no_commit(place: Place) -> None:
    git(copy_of_code(place), "init", "--quiet")
    place.posa(*_NO_ROOM).refused("git cannot tell", "POSA_CODE_COMMIT")
    named = place.posa(*_NO_ROOM, shell={"POSA_CODE_COMMIT": "0123456789abcdef"}).refused("are free")
    assert "git cannot tell" not in named.err


@row("a worktree mounted without its repository", slow=True)
def worktree_alone(place: Place) -> None:
    (copy_of_code(place) / ".git").write_text("gitdir: /nowhere/.git/worktrees/code\n", encoding="utf-8")
    place.posa(*_NO_ROOM).refused("git cannot tell", "POSA_CODE_COMMIT")


@row("a checkout of another owner, as in a container", slow=True)
def other_owner(place: Place) -> None:
    if os.geteuid():
        raise Absent("only root can give files to another owner")
    code = copy_of_code(place)
    commit = repository(code)
    for path in (code, *code.rglob("*")):
        os.chown(path, 12345, 12345)
    assert commit[:12] in code_of(place.posa("doctor", "--json"))
