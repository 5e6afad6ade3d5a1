"""Jobs of a Ray cluster: joined by name, stopped with whoever waits, and clear when they fail."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from answering_servers import at_paths, nowhere, server

from posa_vla.errors import BadInput, PosaError
from posa_vla.ray_cluster import RayCluster, ray_cluster, require_cluster
from posa_vla.schema import Closed
from posa_vla.settings import Settings

ROOT = str(Path(__file__).parents[1])
# For addresses where no cluster is. Without one, Ray's client demands what the first import of Ray found in the
# environment, which another test of this process may have set.
TOKEN = "0" * 32
# Notes each start; then does what its spec says.
PROGRAM = """
import os
import time
from pathlib import Path
from posa_vla.errors import BadInput, PosaError
from posa_vla.ray_jobs import job_main
from posa_vla.schema import Closed

class Spec(Closed):
    log: Path
    until: Path | None = None
    fail: str = ""

def work(spec):
    with spec.log.open("a") as log:
        log.write(f"{os.getpid()}\\n")
    while spec.until and not spec.until.exists():
        time.sleep(0.05)
    if spec.fail:
        raise {"bad": BadInput, "broken": PosaError, "bug": ZeroDivisionError}[spec.fail]("it is " + spec.fail)

if __name__ == "__main__":
    job_main(Spec, work)
"""


class Spec(Closed):
    """What the program is handed."""

    log: Path
    until: Path | None = None
    fail: str = ""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayCluster]:
    folder = tmp_path_factory.mktemp("programs")
    (folder / "program.py").write_text(PROGRAM)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_AUTH_MODE")
        patch.delenv("RAY_AUTH_TOKEN")
        import ray  # before the cluster is there: the order does not matter

        before = dict(os.environ)
        with ray_cluster(Settings()) as running:
            assert dict(os.environ) == before, f"Ray {ray.__version__} is left nothing in this process's environment"
            # A job finds its program as it finds ours.
            path = {"PYTHONPATH": f"{folder}:{ROOT}"}
            yield replace(running, variables=running.variables | path)


def starts(log: Path) -> list[str]:
    return log.read_text().split() if log.exists() else []


def test_two_who_ask_at_once_share_one_job(cluster: RayCluster, tmp_path: Path) -> None:
    from posa_vla.ray_jobs import Jobs

    log, until = tmp_path / "log", tmp_path / "until"
    spec = Spec(log=log, until=until)

    def ask() -> None:
        Jobs(cluster).run("shared", "program", spec, lambda: None)

    other = threading.Thread(target=ask)
    other.start()

    def watch() -> None:
        if starts(log):
            until.touch()

    Jobs(cluster).run("shared", "program", spec, watch)
    other.join(60)
    assert not other.is_alive()
    assert len(starts(log)) == 1
    Jobs(cluster).run("shared", "program", spec, lambda: None)
    assert len(starts(log)) == 2, "who asks again has not found the result: another attempt"


def test_who_is_interrupted_stops_the_job(cluster: RayCluster, tmp_path: Path) -> None:
    from posa_vla.ray_jobs import Jobs

    log = tmp_path / "log"

    def watch() -> None:
        if starts(log):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Jobs(cluster).run("stopped", "program", Spec(log=log, until=tmp_path / "never"), watch)
    assert not Path(f"/proc/{starts(log)[0]}").exists()


def test_who_fails_leaves_the_job_to_the_next(cluster: RayCluster, tmp_path: Path) -> None:
    from posa_vla.ray_jobs import Jobs

    log, until = tmp_path / "log", tmp_path / "until"
    spec = Spec(log=log, until=until)

    def watch() -> None:
        if starts(log):
            raise PosaError("MLflow is away")

    with pytest.raises(PosaError, match="MLflow"):
        Jobs(cluster).run("kept", "program", spec, watch)
    until.touch()
    Jobs(cluster).run("kept", "program", spec, lambda: None)
    assert len(starts(log)) == 1


@pytest.mark.parametrize(
    ("fail", "kind", "message"),
    [
        ("bad", BadInput, "it is bad"),
        ("broken", PosaError, "ended as FAILED: it is broken"),
        ("bug", PosaError, "ZeroDivisionError: it is bug"),
    ],
)
def test_a_failed_job_says_why(
    cluster: RayCluster, tmp_path: Path, fail: str, kind: type[PosaError], message: str
) -> None:
    from posa_vla.ray_jobs import Jobs

    with pytest.raises(kind, match=message) as caught:
        Jobs(cluster).run(f"fails-{fail}", "program", Spec(log=tmp_path / "log", fail=fail), lambda: None)
    assert type(caught.value) is kind


def test_a_cluster_that_is_away_is_named_with_its_setting(cluster: RayCluster) -> None:
    from posa_vla.ray_jobs import Jobs

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(PosaError, match=f"{url} .setting POSA_RAY_ADDRESS. has not answered for 2 s"):
            Jobs(RayCluster(url, {}, TOKEN), patience=2)


def test_a_cluster_that_was_killed_is_not_waited_for() -> None:
    from posa_vla.ray_jobs import Jobs

    start = time.monotonic()
    with pytest.raises(PosaError, match="has ended, killed perhaps or out of memory"):
        Jobs(RayCluster(nowhere(), {}, TOKEN, ended=lambda: True))
    assert time.monotonic() - start < 30


def test_a_wrong_token_is_refused(cluster: RayCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    program = (
        "import sys\nfrom posa_vla.ray_cluster import RayCluster\nfrom posa_vla.ray_jobs import Jobs\n"
        "from posa_vla.errors import BadInput\n"
        "try:\n    Jobs(RayCluster(sys.argv[1], {}))\nexcept BadInput as error:\n    print(error)\n"
    )
    variables = {**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN}
    run = subprocess.run([sys.executable, "-c", program, cluster.url], env=variables, capture_output=True, text=True)
    assert "refuses the token" in run.stdout, run.stderr


def test_the_address_of_a_jobs_api_is_asked_for() -> None:
    with (
        pytest.raises(BadInput, match="expected the cluster's Jobs API"),
        ray_cluster(Settings(ray_address="head:6379")),
    ):
        pass


def test_the_session_lies_where_tmpdir_says_or_it_is_said_why_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from posa_vla.ray_cluster import _private_folder

    short = Path(tempfile.mkdtemp(prefix="t", dir="/tmp"))

    def session_with(tmpdir: Path) -> tuple[Path, str]:
        """Where the session's folder is, and what was said."""
        monkeypatch.setattr(tempfile, "tempdir", None)
        monkeypatch.setenv("TMPDIR", str(tmpdir))
        with _private_folder() as folder:
            return folder.parent, " ".join(capsys.readouterr().err.split())

    assert session_with(short) == (short, "")
    assert not list(short.iterdir())
    short.rmdir()
    place, said = session_with(short)
    assert place != short
    assert f"{short}, cannot be used" in said
    place, said = session_with(tmp_path)
    assert place == Path("/tmp")
    assert f"{tmp_path}, is too long for Ray's sockets" in said
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(BadInput, match="set TMPDIR to a folder with a shorter path"):
        require_cluster(Settings())
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: [str(tmp_path / "gone")])
    with pytest.raises(BadInput, match="set TMPDIR to one that can be written to"):
        require_cluster(Settings())


def test_a_session_of_another_container_in_a_shared_tmp_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its process is none of ours, and lives all the same."""
    from posa_vla.ray_cluster import _private_folder

    shared = Path(tempfile.mkdtemp(prefix="t", dir="/tmp"))
    monkeypatch.setattr(tempfile, "tempdir", str(shared))
    with monkeypatch.context() as there:
        there.setattr(os, "getpid", lambda: 4194304)  # no process of this machine has it
        other = _private_folder()
        theirs = other.__enter__()
    with _private_folder():
        assert theirs.is_dir()
    other.__exit__(None, None, None)
    left = shared / "posa-ray-1-dead"
    left.mkdir()
    (left / "owner.lock").touch()
    with _private_folder():
        assert not left.exists()
    shared.rmdir()


def test_too_little_memory_is_said_before_ray_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("posa_vla.machine.memory", lambda: 1_200_000_000)
    with pytest.raises(BadInput, match=r"needs 3\.2 GB of memory, 1\.2 GB are free"), ray_cluster(Settings()):
        pass
    require_cluster(Settings(ray_address="http://head:8265"))


def listeners(owner: str) -> list[str]:
    """Addresses on which the processes of a cluster listen, as the kernel writes them."""
    sockets = {}
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A":
                sockets[fields[9]] = fields[1].partition(":")[0]
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if owner.encode() not in (process / "cmdline").read_bytes():
                continue
            links = [os.readlink(handle) for handle in (process / "fd").iterdir()]
        except OSError:
            continue
        inodes = [link.removeprefix("socket:[").removesuffix("]") for link in links]
        found += [sockets[inode] for inode in inodes if inode in sockets]
    return found


def test_the_local_cluster_listens_on_loopback_alone(cluster: RayCluster) -> None:
    loopback = {"0100007F", "0000000000000000FFFF00000100007F", "0" * 24 + "01000000"}
    deadline = time.monotonic() + 60  # its agents come up one after the other
    while len(found := listeners(f"posa-ray-{os.getpid()}")) < 5:
        assert time.monotonic() < deadline, f"only {found}"
        time.sleep(0.2)
    assert set(found) <= loopback


def test_a_cluster_that_fails_is_not_taken_for_one_that_knows_no_such_job() -> None:
    import ray

    from posa_vla.ray_jobs import Jobs

    attempt = "train-404e-1"  # jobs are named by hashes, which hold any digits
    version = {"ray_version": ray.__version__, "version": "4", "ray_commit": "", "session_name": ""}
    pages: dict[str, tuple[int, object]] = {"version": (200, version), attempt: (500, f"about job {attempt}")}
    with server(at_paths(**pages)) as url, pytest.raises(PosaError, match=f"cannot tell of job {attempt}"):
        Jobs(RayCluster(url, {}, TOKEN), patience=2).run("train-404e", "program", Spec(log=Path("log")), lambda: None)


def test_a_job_that_is_handed_what_its_program_does_not_know_says_so(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    command = [sys.executable, "program.py", '{"log": "log", "utnil": "never"}']
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": ROOT})
    assert done.returncode == 2
    assert "error: what the job was handed: unknown key utnil; did you mean 'until'?" in done.stderr
    assert not (tmp_path / "log").exists()
