from __future__ import annotations

import os
from pathlib import Path

import pytest

from posa_vla.cli.worker import worker
from posa_vla.errors import BadInput
from posa_vla.settings import Settings


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"POSA_{name.upper()}", raising=False)


@pytest.mark.parametrize("name", Settings.model_fields)
def test_a_variable_that_is_there_and_empty_is_not_set(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    unset = Settings()
    monkeypatch.setenv(f"POSA_{name.upper()}", "")
    assert Settings() == unset


def test_a_variable_that_does_not_fit_is_named_with_its_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSA_CODE_DIRTY", "perhaps")
    with pytest.raises(BadInput, match=r"^POSA_CODE_DIRTY=perhaps: .*boolean.* or unset it$"):
        Settings()


def test_a_worker_s_folder_is_this_one_where_none_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("POSA_PREFECT_API_URL", "http://127.0.0.1:1/api")
    monkeypatch.setenv("POSA_APP", "")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "execv", lambda *arguments: None)
    worker()
    assert os.environ["POSA_APP"] == str(tmp_path)
