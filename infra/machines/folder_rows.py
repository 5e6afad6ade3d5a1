"""Rows: folders, file systems, users and locales."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from pathlib import Path

from code_rows import copy_of_code, git
from machine_row import RETRAIN, ROOT, Absent, Done, Place, row


def in_namespace(place: Place, setup: str, *arguments: str) -> Done:
    """`posa` in mount and network namespaces of its own, after some lines of sh have arranged them."""
    unshare = shutil.which("unshare")
    if unshare is None or os.geteuid() or subprocess.run([unshare, "-mn", "true"], capture_output=True).returncode:
        raise Absent("namespaces need root and unshare")
    arrange = f'ip link set lo up\n{setup}\nexec "$@"'
    return place.run(unshare, "-mn", "sh", "-ec", arrange, "sh", *place.command(*arguments), seconds=900)


@row("core.autocrlf=true: scripts keep their line ends, and the shipped bundle its bytes")
def autocrlf(place: Place) -> None:
    source, clone = place.folder / "source", place.folder / "clone"
    bundle = next((ROOT / "docs" / "results" / "small").glob("*/manifest.json")).parent
    source.mkdir()
    shutil.copy(ROOT / ".gitattributes", source)
    shutil.copy(ROOT / "infra" / "setup.sh", source)
    shutil.copytree(bundle, source / "bundle")
    git(source, "init", "--quiet")
    git(source, "add", "--all")
    git(source, "commit", "--quiet", "--message", "first")
    git(place.folder, "-c", "core.autocrlf=true", "clone", "--quiet", str(source), str(clone))
    for path in sorted(path for path in source.rglob("*") if path.is_file() and ".git" not in path.parts):
        told = path.relative_to(source)
        assert (clone / told).read_bytes() == path.read_bytes(), f"{told} is checked out with other bytes"


@row("a checkout that was copied or renamed with its .venv", slow=True)
def copied_checkout(place: Place) -> None:
    code = copy_of_code(place)
    shutil.copytree(ROOT / "infra", code / "infra")
    # Hard links: two gigabytes are not written again, and the first one's files must not change.
    subprocess.run(["cp", "-al", str(ROOT / ".venv"), str(code / ".venv")], check=True)
    script = (ROOT / ".venv" / "bin" / "posa").read_bytes()
    which = (str(code / ".venv/bin/python"), "-c", "import posa_vla; print(posa_vla.__file__)")
    assert str(ROOT) in place.run(*which).out, "the copy runs the first one's code until it is set up"
    done = place.run("bash", "infra/setup.sh", folder=code, seconds=1200).succeeded()
    assert str(ROOT) in done.err, f"expected that the first one is named: {done}"
    assert place.run(*which).out.strip() == str(code / "posa_vla" / "__init__.py")
    place.run(str(code / ".venv/bin/posa"), "--help").succeeded()
    assert (ROOT / ".venv" / "bin" / "posa").read_bytes() == script, "the first one's script was changed"
    renamed = code.rename(code.with_name("renamed"))
    place.run("bash", "infra/setup.sh", folder=renamed, seconds=1200).succeeded()
    place.run(str(renamed / ".venv/bin/posa"), "--help").succeeded()


@row("TMPDIR on a scratch disk: Ray's session is there, where the path is short enough", slow=True)
def scratch_disk(place: Place) -> None:
    scratch = Path("/var/tmp") / f"s{os.getpid()}"
    scratch.mkdir()
    seen, done = set[str](), threading.Event()

    def watch() -> None:
        while not done.wait(0.2):
            seen.update(path.name for path in scratch.glob("posa-ray-*"))

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        place.retrain({"TMPDIR": str(scratch)})
        assert seen, f"no session of Ray's was below {scratch}"
        assert not list(scratch.glob("posa-ray-*")), "a session's folder is left"
    finally:
        done.set()
        watching.join()
        shutil.rmtree(scratch)


@row("/tmp read-only, and TMPDIR not set", slow=True)
def tmp_read_only(place: Place) -> None:
    place.variables.pop("TMPDIR", None)
    # Only the row's own folder, which may lie there, can still be written to.
    mine = f'mount --bind "{place.folder}" "{place.folder}"'
    in_namespace(place, f"{mine}\nmount --rbind /tmp /tmp\nmount -o remount,ro,bind /tmp", *RETRAIN).retrained()


@row("/dev/shm of 64 MB, and no network", slow=True)
def container(place: Place) -> None:
    shm = "mount -t tmpfs -o size=64m none /dev/shm"
    in_namespace(place, shm, *RETRAIN).retrained()


@row("umask 077, no HOME, LANG=C, a folder with spaces and unicode", slow=True)
def odd_folder(place: Place) -> None:
    place.variables = {"PATH": place.variables["PATH"], "LANG": "C", "LC_ALL": "C"}
    odd = place.folder.rename(place.folder.with_name("Größe 1 (köpie) 数据"))
    place.folder = odd
    command = ["sh", "-c", 'umask 077; exec "$@"', "sh", *place.command(*RETRAIN)]
    place.run(*command, seconds=600).retrained()


@row("the working folder was deleted")
def deleted_folder(place: Place) -> None:
    gone = place.folder / "gone"
    gone.mkdir()
    command = ["sh", "-c", f'rmdir "{gone}"; exec "$@"', "sh", *place.command("--help")]
    place.run(*command, folder=gone).succeeded()
