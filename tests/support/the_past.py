"""Workspaces and agents as earlier commits made them (tests/fixtures), and the clock of their day."""

from __future__ import annotations

import datetime as real
import tarfile
from pathlib import Path
from types import SimpleNamespace

import pytest

FIXTURES = Path(__file__).parents[1] / "fixtures"
WORKSPACE, AGENT = FIXTURES / "workspace-d00ecae.tar.xz", FIXTURES / "agent-d00ecae.zip"
# Where the workspace lay when it was made, and half an hour later.
MADE_AT = "/tmp/w/past-made/.posa"
NOW = real.datetime(2026, 11, 25, 22, 45, tzinfo=real.UTC)


def unpack_workspace(folder: Path) -> Path:
    """A copy of the workspace, at another place than where it was made."""
    home = folder / "restored" / "home"
    home.mkdir(parents=True)
    with tarfile.open(WORKSPACE) as archive:
        archive.extractall(home, filter="data")
    (home / "keys").chmod(0o700)  # as the archive has it; the filter leaves modes of folders out
    return home


class _ThatDay(real.datetime):
    @classmethod
    def now(cls, tz: real.tzinfo | None = None) -> real.datetime:  # type: ignore[override]  # what is asked for here
        return NOW


def set_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes a channel's publisher and its clients in this process read the day on which the workspace was made."""
    monkeypatch.setattr("posa_vla.release.publisher._now", lambda: NOW)
    day = SimpleNamespace(datetime=_ThatDay, timezone=real.timezone)
    monkeypatch.setattr("tuf.ngclient._internal.trusted_metadata_set.datetime", day)
