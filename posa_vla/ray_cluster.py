"""A Ray cluster to work on: the configured one, or one on this machine for as long as it is needed."""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from posa_vla.errors import PosaError
from posa_vla.settings import Settings

# What every Ray worker process gets: one thread each unless told otherwise (threads of several processes that fight
# for two cores are far slower than one each), and an allocator that keeps its pages (large tensors come and go).
WORKER_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "LP_NUM_THREADS": "1",
    "MALLOC_TRIM_THRESHOLD_": "10000000000",
    "MALLOC_MMAP_THRESHOLD_": "10000000000",
    "RAY_TRAIN_ENABLE_STATE_TRACKING": "0",
}


def _private_folder() -> str:
    """A new short session folder; those that killed processes left behind are removed."""
    for old in Path("/tmp").glob("posa-ray-*-*"):
        owner = old.name.split("-")[2]
        if owner.isdigit() and not Path(f"/proc/{owner}").exists():
            shutil.rmtree(old, ignore_errors=True)
    return tempfile.mkdtemp(prefix=f"posa-ray-{os.getpid()}-", dir="/tmp")


@contextmanager
def ray_session(settings: Settings) -> Iterator[None]:
    """Joins the cluster of `settings.ray_address`, or starts one here that ends with the block.

    The local cluster listens on loopback alone and demands a token made for this session. Its session folder is a short
    private temporary one, because a socket's path may not exceed 107 bytes.

    Raises:
        PosaError: Ray does not start, or the address does not answer.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Ray lowers its workers' priority, which on a machine that does anything else starves the training.
    os.environ.setdefault("RAY_worker_niceness", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if not settings.ray_address:
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(16))
    import ray

    if ray.is_initialized():
        yield
        return
    root = Path(__file__).parent.parent
    paths = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH", "")]))
    environment = {"env_vars": {**WORKER_ENVIRONMENT, "PYTHONPATH": paths}}
    folder = None
    try:
        if settings.ray_address:
            ray.init(address=settings.ray_address, runtime_env=environment, log_to_driver=False)
        else:
            folder = _private_folder()
            ray.init(
                address="local",
                _temp_dir=folder,
                _node_ip_address="127.0.0.1",
                include_dashboard=False,
                runtime_env=environment,
                log_to_driver=False,
                logging_level=logging.ERROR,
                object_store_memory=256 * 2**20,
            )
    except (ConnectionError, RuntimeError, TimeoutError, ValueError) as error:
        where = settings.ray_address or "on this machine"
        raise PosaError(f"Ray cluster {where} is not reachable (setting POSA_RAY_ADDRESS): {error}") from error
    try:
        yield
    finally:
        ray.shutdown()
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
