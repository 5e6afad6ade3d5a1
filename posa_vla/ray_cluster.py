"""A Ray cluster to send jobs to: the configured one, or one on this machine for as long as it is needed."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from posa_vla.code_root import CODE_ROOT
from posa_vla.errors import BadInput, PosaError
from posa_vla.processes import dies_with_parent, free_port
from posa_vla.settings import Settings

# What every Ray worker process gets: one thread each unless told otherwise (threads of several processes that fight
# for two cores are far slower than one each), and an allocator that keeps its pages (large tensors come and go).
_WORKERS = {
    "OMP_NUM_THREADS": "1",
    "LP_NUM_THREADS": "1",
    "MALLOC_TRIM_THRESHOLD_": "10000000000",
    "MALLOC_MMAP_THRESHOLD_": "10000000000",
}


# What the processes of a local cluster get.
_CLUSTER = {
    # Ray lowers its workers' priority, which on a machine that does anything else starves the training.
    "RAY_worker_niceness": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # Ray turns 127.0.0.1 into the machine's own address and then listens on all of them, unless it takes the machine
    # for one that cannot be part of a larger cluster.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    # At its end Ray waits half a minute for actors that stay, of which a training leaves one; ours has no work then.
    "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
}
_START_SECONDS, _STOP_SECONDS = 120.0, 30.0


@dataclass(frozen=True)
class RayCluster:
    """Where jobs go.

    Attributes:
        url: Address of the Jobs API.
        variables: Environment of a job and of everything that it starts.
        token: What the cluster demands; empty where Ray's client finds it in this process's environment.
    """

    url: str
    variables: dict[str, str]
    token: str = field(default="", repr=False)


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
    token = secrets.token_hex(16)
    folder = Path(_private_folder())
    try:
        with _running(folder, token) as url:
            root, binaries = str(CODE_ROOT), str(Path(sys.executable).parent)
            paths = {
                "PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")])),
                "PATH": os.pathsep.join([binaries, os.environ.get("PATH", os.defpath)]),
            }
            yield RayCluster(url, _WORKERS | paths, token)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _running(folder: Path, token: str) -> Iterator[str]:
    """A head node of its own on free ports, as a process that ends with this one; yields the Jobs API's address."""
    port = free_port()
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--disable-usage-stats"]
    command += ["--temp-dir", str(folder), "--object-store-memory", str(256 * 2**20), "--include-dashboard", "true"]
    command += ["--dashboard-host", "127.0.0.1", "--dashboard-port", str(port), "--dashboard-agent-listen-port", "0"]
    command += ["--port", "0", "--ray-client-server-port", str(free_port())]
    command += ["--min-worker-port", "0", "--max-worker-port", "0"]
    log_path = folder / "start.log"
    with log_path.open("wb") as log:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **_CLUSTER, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token},
            start_new_session=True,  # not killed with us, but told of our end: then it ends all that it started
            preexec_fn=dies_with_parent(signal.SIGTERM),
        )
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + _START_SECONDS
        while not _healthy(url):
            if child.poll() is not None or time.monotonic() > deadline:
                told = log_path.read_text(encoding="utf-8", errors="replace").splitlines()[-5:]
                raise PosaError("Ray does not start on this machine:\n" + "\n".join(told))
            time.sleep(0.2)
        yield url
    finally:
        child.terminate()
        try:
            child.wait(timeout=_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/api/gcs_healthz", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
