"""Which code this is: commit and dirtiness of the image or checkout that it runs from."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from posa_vla.code_git import ask_git, is_checkout
from posa_vla.code_root import CODE_ROOT
from posa_vla.console import say
from posa_vla.errors import BadInput, PosaError
from posa_vla.files import sha256_file
from posa_vla.schema import Closed
from posa_vla.settings import Settings


class CodeState(Closed):
    """The code that made a policy: git commit, whether files were changed since, SHA-256 of the lock file."""

    commit: str | None
    dirty: bool | None
    lock_sha256: str | None
    image_digest: str | None = None


def code_state(settings: Settings, root: Path = CODE_ROOT) -> CodeState:
    """Commit and dirtiness of the image or checkout that the code runs from; unknown for an installed package.

    Args:
        settings: May name the commit.
        root: Where the code lies.

    Raises:
        BadInput: It runs from a checkout whose commit git cannot tell.
    """
    lock = root / "requirements.lock"
    lock_sha256 = sha256_file(lock) if lock.is_file() else None
    if settings.code_commit:
        return CodeState(commit=settings.code_commit, dirty=settings.code_dirty, lock_sha256=lock_sha256)
    if not is_checkout(root):
        return CodeState(commit=None, dirty=None, lock_sha256=lock_sha256)
    try:
        commit = ask_git("rev-parse", "HEAD", folder=root)
        changes = ask_git("status", "--porcelain", "--untracked-files=no", folder=root)
    except PosaError as error:
        raise BadInput(
            f"records name the commit of the code, and git cannot tell that of {root}: {error}. Commit what is "
            "there (git add --all && git commit), mount the repository of a worktree too, or name the commit in "
            "POSA_CODE_COMMIT"
        ) from None
    return CodeState(commit=commit, dirty=bool(changes), lock_sha256=lock_sha256)


def require_code_state(settings: Settings) -> None:
    """Stops before any work whose records could not name the code, and says where they will name none.

    Raises:
        BadInput: See `code_state`.
    """
    if code_state(settings).commit is None:
        _note_no_commit()


@cache  # said once, however many procedures a command consists of
def _note_no_commit() -> None:
    say(
        f"note: {CODE_ROOT} is no git checkout, so that records name no commit of the code: clone the repository, "
        "or name the commit in POSA_CODE_COMMIT"
    )
