"""What tests of several folders start from: costly to make, only ever copied."""

from __future__ import annotations

import pytest
from data_workspaces import two_versions

from posa_vla.workspace import Workspace


@pytest.fixture(scope="session")
def two_versions_made(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace with data-v1 and data-v2; take a copy (`data_workspaces.copy_of`)."""
    return two_versions(tmp_path_factory.mktemp("two-versions"))
