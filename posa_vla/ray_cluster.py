"""A Ray cluster to send jobs to: the configured one, or one on this machine for as long as it is needed."""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from posa_vla.console import say
from posa_vla.errors import BadInput, PosaError
from posa_vla.machine import processors, require_memory, temporary_folder
from posa_vla.processes import dies_with_parent, free_port
from posa_vla.settings import Settings
from posa_vla.shell import environment

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
    # Nobody looks at figures of a cluster that ends with the command, and its one node is taken away by nobody: what
    # Ray's own processes take is missing to the training (`ray_overhead` of benchmarks/training.py).
    "RAY_task_events_report_interval_ms": "0",
    "RAY_enable_metrics_collection": "0",
    "RAY_event_stats": "0",
    "RAY_raylet_report_resources_period_milliseconds": "1000",
    "REPORTER_UPDATE_INTERVAL_MS": "60000",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
}
_START_SECONDS, _STOP_SECONDS = 120.0, 30.0
# Bytes. Measured with the smallest training: 3.5 GB at most, with files that the kernel may drop; of 3.0 GB Ray kills a
# worker, of 2.5 GB it ends itself.
_MEMORY = 3_200_000_000
# The session's folder, and in it the file that its owner holds locked.
_PREFIX, _LOCK = "posa-ray-", "owner.lock"
# Bytes of the folder that it is made in. A socket's path has 107: of these the session's folder takes 22, and Ray's
# names below it (session_YYYY-MM-DD_HH-MM-SS_UUUUUU_PID/sockets/dash_MetricsHead) 68.
_LONGEST = 107 - 22 - 68


@dataclass(frozen=True)
class RayCluster:
    """Where jobs go.

    Attributes:
        url: Address of the Jobs API.
        variables: Environment of a job and of everything that it starts.
        token: What the cluster demands; empty where Ray's client finds it in this process's environment.
        ended: Whether it is known to be gone for good.
    """

    url: str
    variables: dict[str, str]
    token: str = field(default="", repr=False)
    ended: Callable[[], bool] = field(default=lambda: False, repr=False, compare=False)


@contextmanager
def _private_folder() -> Iterator[Path]:
    """A new short session folder, removed at the end; those that killed processes left behind are removed too.

    Whose owner lives is seen by a lock: where containers share the folder, the number of a process says nothing.
    """
    place, wanted = _short_folder(), os.environ.get("TMPDIR", "")
    if wanted and place != Path(os.path.abspath(wanted)):
        why = f"is too long for Ray's sockets (at most {_LONGEST} bytes)" if _is_too_long(wanted) else "cannot be used"
        say(f"note: TMPDIR, which is {wanted}, {why}: Ray's session is in {place}")
    for old in place.glob(f"{_PREFIX}*"):
        with suppress(OSError), (old / _LOCK).open(encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(old, ignore_errors=True)
    folder = place / f"{_PREFIX}{os.getpid()}-{secrets.token_hex(2)}"
    folder.mkdir(mode=0o700)
    with (folder / _LOCK).open("w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _is_too_long(place: str) -> bool:
    return len(os.fsencode(os.path.abspath(place))) > _LONGEST


def _short_folder() -> Path:
    """Where the session's folder is made: TMPDIR, or the system's own where a socket's path would be too long there.

    Raises:
        BadInput: Neither can be used.
    """
    place = temporary_folder()
    if not _is_too_long(str(place)):
        return place
    system = Path("/tmp")
    if not os.access(system, os.W_OK | os.X_OK):
        raise BadInput(
            f"Ray makes sockets below the folder for temporary files, and {place} is too long for them "
            f"({len(os.fsencode(place))} bytes, at most {_LONGEST}); {system} cannot be written to: set TMPDIR to a "
            "folder with a shorter path"
        )
    return system


def require_cluster(settings: Settings) -> None:
    """Stops before any work where no cluster could be started on this machine; a configured one is not asked.

    Raises:
        BadInput: Too little memory is free, or there is no folder for Ray's sockets.
    """
    if not settings.ray_address:
        elsewhere = "name a cluster in POSA_RAY_ADDRESS, or do without (--local of `posa train`, `posa evaluate sim`)"
        require_memory(_MEMORY, "Ray on this machine, with a training in it,", elsewhere)
        _short_folder()


@contextmanager
def ray_cluster(settings: Settings, *, at_least: int = 1) -> Iterator[RayCluster]:
    """The cluster of `settings.ray_address`, or one that is started here and ends with the block.

    The local cluster listens on loopback alone and demands a token made for this session. Its session folder is a short
    private temporary one, because a socket's path may not exceed 107 bytes.

    Args:
        settings: Of the workspace.
        at_least: Processors that the local cluster hands out at least, though this machine may have fewer: a training
            of two workers waits for two for ever, while two that share one are only slower.

    Raises:
        BadInput: The address is none of a Jobs API; see `require_cluster` too.
        PosaError: Ray does not start.
    """
    if settings.ray_address:
        if not settings.ray_address.startswith(("http://", "https://")):
            raise BadInput(
                f"POSA_RAY_ADDRESS is {settings.ray_address!r}, expected the cluster's Jobs API, http://HOST:8265"
            )
        yield RayCluster(settings.ray_address.rstrip("/"), _WORKERS)
        return
    require_cluster(settings)
    token = secrets.token_hex(16)
    with _private_folder() as folder, _running(folder, token, settings, max(processors(), at_least)) as head:
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
        url, child = head
        yield RayCluster(url, _WORKERS | {"PATH": path}, token, ended=lambda: child.poll() is not None)


@contextmanager
def _running(folder: Path, token: str, settings: Settings, cpus: int) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A head node of its own on free ports, which ends with this process; yields its Jobs API's address and itself."""
    port = free_port()
    command = [sys.executable, "-P", "-m", "ray.scripts.scripts", "start", "--head", "--block", "--disable-usage-stats"]
    command += ["--num-cpus", str(cpus), "--object-store-memory", str(256 * 2**20)]
    command += ["--temp-dir", str(folder), "--include-dashboard", "true"]
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
            env={
                **environment(settings),
                **_CLUSTER,
                "RAY_AUTH_MODE": "token",
                "RAY_AUTH_TOKEN": token,
                "RAY_TMPDIR": str(folder),  # else it writes into /tmp/ray too, which may be another user's
            },
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
        yield url, child
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
