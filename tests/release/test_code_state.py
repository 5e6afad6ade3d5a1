"""Which commit the code is at, whatever shell and folder say."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from posa_vla.errors import BadInput
from posa_vla.release.code_state import code_state
from posa_vla.settings import Settings

WHO = ("-c", "user.name=test", "-c", "user.email=test@example.org")


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *WHO, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with one commit, in a folder of another repository."""
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "commit", "--quiet", "--allow-empty", "--message", "of the folder above")
    folder = tmp_path / "checkout"
    folder.mkdir()
    (folder / "requirements.lock").write_text("torch==1\n")
    git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "first")
    return folder


def test_git_is_asked_about_the_code_and_not_about_the_repository_of_a_hook(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = git(checkout, "rev-parse", "HEAD")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(tmp_path))
    code = code_state(Settings(), checkout)
    assert (code.commit, code.dirty) == (head, False)
    (checkout / "requirements.lock").write_text("torch==2\n")
    assert code_state(Settings(), checkout).dirty


def test_a_zip_has_no_commit_even_in_the_folder_of_a_repository_and_keeps_its_lock(checkout: Path) -> None:
    (checkout / ".git").rename(checkout.parent / "gone")
    code = code_state(Settings(), checkout)
    assert (code.commit, code.dirty) == (None, None)
    assert code.lock_sha256 is not None


@pytest.mark.parametrize("fault", ["no commit", "worktree alone", "no git"])
def test_a_checkout_whose_commit_git_cannot_tell_is_refused_with_the_ways_out(
    checkout: Path, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if fault == "no commit":
        git(checkout, "update-ref", "-d", "HEAD")
    elif fault == "worktree alone":
        (checkout / ".git").rename(checkout.parent / "gone")
        (checkout / ".git").write_text("gitdir: /nowhere/.git/worktrees/checkout\n")
    else:
        monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(BadInput, match="POSA_CODE_COMMIT") as caught:
        code_state(Settings(), checkout)
    assert str(checkout) in str(caught.value)
    named = code_state(Settings(code_commit="0123"), checkout)
    assert (named.commit, named.dirty) == ("0123", False)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to another owner")
def test_a_checkout_of_another_owner_is_trusted_as_its_code_is(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = git(checkout, "rev-parse", "HEAD")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))  # whose configuration may trust everything
    for path in (checkout, *checkout.rglob("*")):
        os.chown(path, 12345, 12345)
    assert code_state(Settings(), checkout).commit == head
