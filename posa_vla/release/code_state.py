"""Which code this is: commit and dirtiness of the image or checkout that it runs from."""

from __future__ import annotations

import subprocess

from posa_vla.code_root import CODE_ROOT
from posa_vla.errors import PosaError
from posa_vla.files import sha256_file
from posa_vla.schema import Closed
from posa_vla.settings import Settings


class CodeState(Closed):
    """The code that made a policy: git commit, whether files were changed since, SHA-256 of the lock file."""

    commit: str | None
    dirty: bool | None
    lock_sha256: str | None
    image_digest: str | None = None


def code_state(settings: Settings) -> CodeState:
    """Commit and dirtiness of the image or checkout that the code runs from; unknown for an installed package."""
    lock = CODE_ROOT / "requirements.lock"
    lock_sha256 = sha256_file(lock) if lock.is_file() else None
    if settings.code_commit:
        return CodeState(commit=settings.code_commit, dirty=settings.code_dirty, lock_sha256=lock_sha256)
    if not (CODE_ROOT / ".git").exists():
        return CodeState(commit=None, dirty=None, lock_sha256=None)

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(CODE_ROOT), *arguments], capture_output=True, encoding="utf-8", check=True
        ).stdout.strip()

    try:
        commit, changes = git("rev-parse", "HEAD"), git("status", "--porcelain", "--untracked-files=no")
    except subprocess.CalledProcessError as error:
        raise PosaError(f"git cannot tell which commit {CODE_ROOT} is at: {error.stderr.strip()}") from None
    return CodeState(commit=commit, dirty=bool(changes), lock_sha256=lock_sha256)
