"""Rows: what a person's shell has of other programs, other projects, and clusters."""

from __future__ import annotations

import secrets
import socket
import sqlite3
import sys
from pathlib import Path

from code_rows import copy_of_code
from machine_row import Place, row

# What `posa` and all that it starts would get of the shell, without starting servers.
_SHOW = """
import json, os, sys
from posa_vla.settings import Settings
from posa_vla.shell import enter
enter(Settings())
print(json.dumps({"environment": dict(os.environ), "path": sys.path}))
"""


def children_of(place: Place, shell: dict[str, str]) -> dict[str, str]:
    """The environment that `posa` gives to what it starts, in a shell with these variables."""
    done = place.run(sys.executable, "-P", "-c", _SHOW, shell={"PYTHONPATH": str(place.code), **shell})
    found: dict[str, str] = done.json()["environment"]
    return found


def dead_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@row("a proxy in the shell: loopback goes around it, the rest through it")
def proxy_for_children(place: Place) -> None:
    theirs = {"HTTP_PROXY": "http://proxy.example:3128", "https_proxy": "http://proxy.example:3128"}
    found = children_of(place, {**theirs, "no_proxy": "intern.example"})
    assert {name: found[name] for name in theirs} == theirs, "S3 and the package index may need the proxy"
    for name in ("no_proxy", "NO_PROXY"):
        assert found[name] == "intern.example,localhost,127.0.0.1,::1", found[name]
    assert children_of(place, {**theirs, "NO_PROXY": "*"})["no_proxy"] == "*"
    assert "ALL_PROXY" not in children_of(place, {"ALL_PROXY": "socks5://proxy.example:1080"})


@row("a proxy that does not answer in the shell, and a retraining", slow=True)
def proxy(place: Place) -> None:
    nowhere = f"http://127.0.0.1:{dead_port()}"
    theirs = dict.fromkeys(("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY"), nowhere)
    place.retrain(theirs)


@row("addresses and passwords of another project's servers in the shell")
def other_servers_for_children(place: Place) -> None:
    theirs = {
        "PREFECT_API_URL": "http://prefect.example/api",
        "PREFECT_API_AUTH_STRING": "them:theirs",
        "PREFECT_API_KEY": "pnu_theirs",
        "PREFECT_PROFILE": "theirs",
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": "postgresql+asyncpg://db.example/prefect",
        "PREFECT_SERVER_API_AUTH_STRING": "them:theirs",
        "prefect_results_default_storage_block": "s3-bucket/theirs",
        "MLFLOW_TRACKING_URI": "http://mlflow.example",
        "MLFLOW_RUN_ID": "0" * 32,
        "RAY_ADDRESS": "ray://cluster.example:10001",
        "RAY_AUTH_TOKEN": "theirs",
        "GLOO_SOCKET_IFNAME": "ib0",
        "NCCL_SOCKET_IFNAME": "ib0",
        "DVC_ROOT": "/theirs",
        "UVICORN_UDS": "/theirs",
        "WEB_CONCURRENCY": "4",
    }
    found = children_of(place, theirs)
    left = {name: found[name] for name in theirs if name in found}
    assert not left, f"of another project, and handed on: {left}"
    assert found["PREFECT_HOME"] == str(place.folder / ".posa" / "prefect")


@row("credentials of servers that POSA_* settings name are handed on")
def credentials(place: Place) -> None:
    told = {
        "PREFECT_API_AUTH_STRING": "us:ours",
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
        "MLFLOW_TRACKING_USERNAME": "us",
        "MLFLOW_TRACKING_PASSWORD": "ours",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": "ours",
    }
    ours = {
        "POSA_PREFECT_API_URL": "http://prefect.intern/api",
        "POSA_MLFLOW_TRACKING_URI": "http://mlflow.intern",
        "POSA_RAY_ADDRESS": "http://ray.intern:8265",
    }
    theirs = {"PREFECT_API_URL": "http://prefect.example/api", "RAY_ADDRESS": "auto", "PREFECT_API_KEY": "pnu_theirs"}
    found = children_of(place, told | ours | theirs)
    assert {name: found.get(name) for name in told} == told
    assert found["PREFECT_API_URL"] == ours["POSA_PREFECT_API_URL"]
    assert "RAY_ADDRESS" not in found
    assert "PREFECT_API_KEY" not in found, "a server of one's own refuses a key of Prefect Cloud"


@row("another project's Prefect and Ray in shell and folder, and a retraining: nothing is written there", slow=True)
def other_servers(place: Place) -> None:
    database = place.folder.parent / "theirs.db"
    dead = f"http://127.0.0.1:{dead_port()}"
    theirs = {
        "PREFECT_API_URL": f"{dead}/api",
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{database}",
        "PREFECT_SERVER_API_AUTH_STRING": f"them:{secrets.token_hex(8)}",
        "MLFLOW_TRACKING_URI": dead,
        "RAY_ADDRESS": "127.0.0.1:6379",
        "GLOO_SOCKET_IFNAME": "ib0",
        "NCCL_SOCKET_IFNAME": "ib0",
    }
    (place.folder / ".env").write_text(f"PREFECT_API_URL={dead}/api\nPREFECT_AUTH=of a stack\n", encoding="utf-8")
    place.retrain(theirs)
    assert not database.exists(), "their database was written to"
    ours = sqlite3.connect(place.folder / ".posa" / "prefect" / "prefect.db")
    assert ours.execute("select count(*) from flow_run").fetchone()[0] >= 1


@row("prefect.toml or .env of another project in the folder", slow=True)
def settings_in_the_folder(place: Place) -> None:
    (place.folder / "prefect.toml").write_text(
        "[results]\ndefault_storage_block = 's3-bucket/theirs'\n", encoding="utf-8"
    )
    done = place.posa("retrain", "--preset", "tiny", seconds=120)
    done.refused("prefect.toml", "PREFECT_RESULTS_DEFAULT_STORAGE_BLOCK", "posa init", within=60.0)
    assert not (place.folder / ".posa" / "episodes").exists()


def their_modules(folder: Path) -> Path:
    """A folder of another project's code, whose modules have names that ours and Python's own have."""
    (folder / "flows").mkdir(parents=True)
    for name in ("flows/__init__.py", "types.py", "secrets.py", "sitecustomize.py"):
        (folder / name).write_text(f"raise RuntimeError('{name} of another project was imported')\n", encoding="utf-8")
    return folder


@row("a package flows, types.py and secrets.py in the folder and on PYTHONPATH")
def other_modules(place: Place) -> None:
    their_modules(place.folder)
    on_path = their_modules(place.folder.parent / "theirs")
    (on_path / "sitecustomize.py").unlink()  # Python itself imports it before any program begins
    done = place.posa("retrain", "--params", "nowhere.yaml", shell={"PYTHONPATH": str(on_path)})
    done.refused("nowhere.yaml does not exist")


@row("the same modules, and a retraining with all its servers", slow=True)
def other_modules_and_servers(place: Place) -> None:
    their_modules(place.folder)
    on_path = their_modules(place.folder.parent / "theirs")
    (on_path / "sitecustomize.py").unlink()
    place.retrain({"PYTHONPATH": str(on_path)})


@row("secrets.py in the checkout itself")
def module_in_the_checkout(place: Place) -> None:
    (copy_of_code(place) / "secrets.py").write_text("raise RuntimeError('imported')\n", encoding="utf-8")
    place.posa("retrain").refused("code/secrets.py", "rename it")
