"""A Ray cluster to send jobs to: the configured one, or one on this machine for as long as it is needed."""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from posa_vla.errors import BadInput, PosaError
from posa_vla.settings import Settings

# What every Ray worker process gets: one thread each unless told otherwise (threads of several processes that fight
# for two cores are far slower than one each), and an allocator that keeps its pages (large tensors come and go).
_WORKERS = {
    "OMP_NUM_THREADS": "1",
    "LP_NUM_THREADS": "1",
    "MALLOC_TRIM_THRESHOLD_": "10000000000",
    "MALLOC_MMAP_THRESHOLD_": "10000000000",
}


@dataclass(frozen=True)
class RayCluster:
    """Where jobs go.

    Attributes:
        url: Address of the Jobs API.
        variables: Environment of a job and of everything that it starts.
    """

    url: str
    variables: dict[str, str]


def _private_folder() -> str:
    """A new short session folder; those that killed processes left behind are removed."""
    for old in Path("/tmp").glob("posa-ray-*-*"):
        owner = old.name.split("-")[2]
        if owner.isdigit() and not Path(f"/proc/{owner}").exists():
            shutil.rmtree(old, ignore_errors=True)
    return tempfile.mkdtemp(prefix=f"posa-ray-{os.getpid()}-", dir="/tmp")


@contextmanager
def ray_cluster(settings: Settings) -> Iterator[RayCluster]:
    """The cluster of `settings.ray_address`, or one that is started here and ends with the block.

    The local cluster listens on loopback alone and demands a token made for this session. Its session folder is a short
    private temporary one, because a socket's path may not exceed 107 bytes.

    Raises:
        BadInput: The address is none of a Jobs API.
        PosaError: Ray does not start.
    """
    if settings.ray_address:
        if not settings.ray_address.startswith(("http://", "https://")):
            raise BadInput(
                f"POSA_RAY_ADDRESS is {settings.ray_address!r}, expected the cluster's Jobs API, http://HOST:8265"
            )
        yield RayCluster(settings.ray_address.rstrip("/"), _WORKERS)
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Ray lowers its workers' priority, which on a machine that does anything else starves the training.
    os.environ.setdefault("RAY_worker_niceness", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    # Ray turns 127.0.0.1 into the machine's own address and then listens on all of them, unless it takes the machine
    # for one that cannot be part of a larger cluster.
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    os.environ["RAY_AUTH_MODE"] = "token"
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(16))
    import ray

    folder = _private_folder()
    try:
        context: Any = ray.init(
            address="local",
            _temp_dir=folder,
            include_dashboard=True,
            dashboard_host="127.0.0.1",
            log_to_driver=False,
            logging_level=logging.ERROR,
            object_store_memory=256 * 2**20,
        )
    except (ConnectionError, RuntimeError, TimeoutError, ValueError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise PosaError(f"Ray does not start on this machine: {error}") from error
    try:
        root, binaries = str(Path(__file__).parent.parent), str(Path(sys.executable).parent)
        paths = {
            "PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")])),
            "PATH": os.pathsep.join([binaries, os.environ.get("PATH", os.defpath)]),
        }
        yield RayCluster(f"http://{context.address_info['webui_url']}", _WORKERS | paths)
    finally:
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)
