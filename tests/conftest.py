"""What tests of several folders start from: costly to make, only ever copied."""

from __future__ import annotations

import os
import secrets

import pytest
from data_workspaces import two_versions
from hypothesis import settings

from posa_vla.workspace import Workspace


def pytest_configure() -> None:
    """Sets how properties are tried, and gives clusters in this process (`local_ray`) a token before Ray is there."""
    settings.register_profile("posa", deadline=None)  # a busy machine is no fault of what is tested
    settings.load_profile("posa")
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(16))


@pytest.fixture(scope="session")
def two_versions_made(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace with data-v1 and data-v2; take a copy (`data_workspaces.copy_of`)."""
    return two_versions(tmp_path_factory.mktemp("two-versions"))


@pytest.fixture(scope="session")
def three_releases(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace with three releases of a simulated robot; take a copy (`released.copied`)."""
    from released import released  # MLflow and torch, which most tests do without

    return released(tmp_path_factory.mktemp("three-releases"), 3)
