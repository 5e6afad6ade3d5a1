"""The workspace folder: who holds it, what has been done in it, and where things lie."""

from __future__ import annotations

import fcntl
import os
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from posa_vla.errors import Busy
from posa_vla.objects.contract import Objects
from posa_vla.objects.open import open_objects
from posa_vla.settings import Settings, cache_folder

Lock = Literal["lock", "promotions.lock", "incoming.lock", "data.lock"]

# Locks that this process holds, and the thread that each is held by.
_held: dict[Path, int] = {}
# Seconds that a run waits for those who only look at the lock; a look takes microseconds.
_LOOK = 5.0


def _taken(file: IO[str], how: int) -> bool:
    try:
        fcntl.flock(file, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _looked_at(file: IO[str]) -> bool:
    """Whether nobody holds the lock: what stood in the way was a look, which shares it."""
    if not _taken(file, fcntl.LOCK_SH):
        return False
    fcntl.flock(file, fcntl.LOCK_UN)
    return True


def _locked(file: IO[str]) -> bool:
    deadline = time.monotonic() + _LOOK
    while not _taken(file, fcntl.LOCK_EX):
        if not _looked_at(file) or time.monotonic() > deadline:
            return False
        time.sleep(random.uniform(0.001, 0.01))
    return True


def _written(file: IO[str]) -> str:
    file.seek(0)
    return file.read().strip() or "another process"


@dataclass(frozen=True)
class Workspace:
    """Paths below the one folder that everything is written to (default `.posa/`)."""

    home: Path
    settings: Settings

    @staticmethod
    def open(settings: Settings | None = None) -> Workspace:
        """The workspace of the settings; the folder is made when something is first written."""
        settings = settings or Settings()
        return Workspace(settings.home.expanduser().resolve(), settings)

    @property
    def store(self) -> Path:
        """The episode store: batches named by their content."""
        return self.home / "episodes"

    @property
    def repository(self) -> Path:
        """Bare git repository with the data's history."""
        return self.home / "workspace.git"

    @property
    def clones(self) -> Path:
        """Working clones of the repository, one a run."""
        return self.home / "clones"

    @property
    def dvc_cache(self) -> Path:
        """DVC cache shared by all clones."""
        return self.home / "dvc-cache"

    @property
    def dvc_remote(self) -> str:
        """Default DVC remote."""
        return self.settings.dvc_remote or str(self.home / "dvc-remote")

    @property
    def validated(self) -> Path:
        """What validation found of each batch; anybody may delete it."""
        return self.home / "validated"

    @property
    def reports(self) -> Path:
        """Validation reports, one folder for each data version."""
        return self.home / "reports"

    @property
    def data(self) -> Path:
        """Prepared training data, one folder a data version."""
        return self.home / "data"

    @property
    def storage(self) -> Objects:
        """What Ray's nodes share with the flows: `data/`, `bundles/`, `training/`, `evaluations/`."""
        return open_objects(self.settings.storage or str(self.home))

    @property
    def cache(self) -> Path:
        """Where what was taken from a storage elsewhere is kept on this machine."""
        return cache_folder(self.settings)

    @property
    def bundles(self) -> Path:
        """Policy bundles named by digest."""
        return self.home / "bundles"

    @property
    def evidence(self) -> Path:
        """Evidence records by digest."""
        return self.home / "evidence"

    @property
    def promotions(self) -> Path:
        """Promotion logs, decisions and release records."""
        return self.home / "promotions"

    @property
    def keys(self) -> Path:
        """Private keys of this workspace's publisher (mode 0600)."""
        return self.home / "keys"

    @property
    def channel(self) -> str:
        """Release channel: a directory or `s3://...`."""
        return self.settings.channel or str(self.home / "channel")

    @property
    def robots(self) -> Path:
        """State folders of simulated robots, one a robot."""
        return self.home / "robots"

    @property
    def mlflow_uri(self) -> str:
        """MLflow tracking and registry URI."""
        return self.settings.mlflow_tracking_uri or f"sqlite:///{self.home / 'mlflow' / 'mlflow.db'}"

    def named(self, location: str) -> str:
        """A location as keys name it: relative to the workspace where it lies in it, so that a move changes no key."""
        return location.replace(f"{self.home}/", "")

    @contextmanager
    def lock(self, purpose: str, name: Lock = "lock", wait: float = 0) -> Iterator[None]:
        """Holds the workspace until the block ends; the kernel frees it when the process dies, however it dies.

        A thread that holds it may take it again. What changes channel or promotion log holds `promotions.lock`, for
        seconds, so that a rollback need not wait for a retraining; what changes episode store or data history holds
        `data.lock`, so that an ingestion need not either; what fetches datasets, and reads what it fetched, holds
        `incoming.lock`. Who holds several takes `lock` first, and `data.lock` last.

        Args:
            purpose: What for; the next one is told.
            name: What is held.
            wait: Seconds to wait for it.

        Raises:
            Busy: Another process or thread holds it; the message names process and purpose.
        """
        self.home.mkdir(parents=True, exist_ok=True)
        path, deadline = self.home / name, time.monotonic() + wait
        if _held.get(path) == threading.get_ident():
            yield
            return
        with path.open("a+", encoding="utf-8") as file:
            while not _locked(file):
                if time.monotonic() < deadline:
                    time.sleep(0.1)
                    continue
                raise Busy(
                    f"workspace {self.home} is held by {_written(file)}: wait for it, stop it, "
                    "or set POSA_HOME to another folder"
                )
            file.seek(0)
            file.truncate()
            file.write(f"{purpose}, process {os.getpid()}, since {time.strftime('%H:%M:%S')}")
            file.flush()
            _held[path] = threading.get_ident()
            try:
                yield
            finally:
                del _held[path]
                file.seek(0)
                file.truncate()

    def holder(self) -> str | None:
        """Who else holds the workspace at this moment, purpose and process; None where nobody does.

        The look shares the lock: a run that starts meanwhile waits for it, and is not refused.
        """
        path = self.home / "lock"
        if _held.get(path) == threading.get_ident() or not path.exists():
            return None
        with path.open(encoding="utf-8") as file:
            return None if _taken(file, fcntl.LOCK_SH) else _written(file)

    def held(self) -> bool:
        """Whether another process or thread holds the workspace at this moment."""
        return self.holder() is not None
