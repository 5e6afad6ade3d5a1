"""What tests of several folders start from: costly to make, only ever copied."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import suppress

import pytest
from data_workspaces import two_versions
from hypothesis import settings

from posa_vla.errors import BadInput
from posa_vla.settings import Settings
from posa_vla.shell import enter
from posa_vla.sim.gl import require_gl
from posa_vla.workspace import Workspace


def pytest_configure() -> None:
    """Sets how properties are tried, and what of the shell the tests see.

    Clusters in this process (`local_ray`) get a token before Ray is there. What MuJoCo draws with is chosen before any
    file of tests imports it; where there is nothing to draw with, the tests that draw say so.

    `make test` has a process of tests a core: each computes with one thread, and so do those that it starts. Otherwise
    the threads of all wait for each other's cores, busily.
    """
    settings.register_profile("posa", deadline=None)  # a busy machine is no fault of what is tested
    settings.load_profile("posa")
    for name in [name for name in os.environ if name.startswith("POSA_") and name != "POSA_LEROBOT_PYTHON"]:
        del os.environ[name]
    enter(Settings())
    # Tests change what is set here, and start programs of their own folders.
    for name in ("PREFECT_HOME", "PYTHONPATH", "PYTHONSAFEPATH", "PYTHONUTF8"):
        os.environ.pop(name, None)
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    os.environ["RAY_AUTH_MODE"] = "token"
    os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(16)
    with suppress(BadInput):
        require_gl()


@pytest.fixture(autouse=True)
def _variables() -> Iterator[None]:
    """A command that is run in this process clears what it does not take over from its shell."""
    before = dict(os.environ)
    yield
    for name, value in before.items():
        os.environ.setdefault(name, value)


@pytest.fixture(scope="session")
def two_versions_made(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace with data-v1 and data-v2; take a copy (`data_workspaces.copy_of`)."""
    return two_versions(tmp_path_factory.mktemp("two-versions"))


@pytest.fixture(scope="session")
def three_releases(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace with three releases of a simulated robot; take a copy (`released.copied`)."""
    from released import released  # MLflow and torch, which most tests do without

    return released(tmp_path_factory.mktemp("three-releases"), 3)
