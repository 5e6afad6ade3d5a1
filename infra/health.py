"""Health of one service of the stack, asked from inside its container: exits 1 with the reason where it is useless."""

from __future__ import annotations

import base64
import json
import os
import socket
import sys
import urllib.request

# Docker hands a company's proxy to containers; services of the stack are asked without it.
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def _get(url: str, headers: dict[str, str] | None = None, data: bytes | None = None) -> bytes:
    request = urllib.request.Request(url, data=data, headers={"Content-Type": "application/json", **(headers or {})})
    with _DIRECT.open(request, timeout=8) as answer:
        return bytes(answer.read())


def _basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


def mlflow() -> None:
    """Answers a client's question from its database, and lists artifacts from its store."""
    login = _basic(os.environ["MLFLOW_AUTH_ADMIN_USERNAME"], os.environ["MLFLOW_AUTH_ADMIN_PASSWORD"])
    api = "http://localhost:5000/api/2.0"
    _get(f"{api}/mlflow/experiments/search", login, b'{"max_results": 1}')
    _get(f"{api}/mlflow-artifacts/artifacts?path=health", login)


def prefect() -> None:
    """Reaches its database."""
    _get("http://localhost:4200/api/ready")


def prefect_services() -> None:
    """The server, the database and Redis answer this container; the process itself is the container's first."""
    _get("http://prefect-server:4200/api/ready")
    import redis

    redis.Redis.from_url(os.environ["PREFECT_SERVER_DOCKET_URL"], socket_timeout=5).ping()


def worker() -> None:
    """Prefect's worker has polled its pool not long ago."""
    _get(f"http://127.0.0.1:{os.environ.get('PREFECT_WORKER_WEBSERVER_PORT') or '8080'}/health")


def ray_head() -> None:
    """Takes jobs with this token, and its control store answers."""
    _get("http://localhost:8265/api/gcs_healthz")
    _get("http://localhost:8265/api/jobs/", {"Authorization": f"Bearer {os.environ['RAY_AUTH_TOKEN']}"})


def ray_worker() -> None:
    """The head counts this node among the living."""
    mine = socket.gethostbyname(socket.gethostname())
    head = os.environ.get("POSA_RAY_ADDRESS") or "http://ray-head:8265"
    answer = _get(f"{head}/api/v0/nodes", {"Authorization": f"Bearer {os.environ['RAY_AUTH_TOKEN']}"})
    nodes = json.loads(answer)["data"]["result"]["result"]
    if not any(node["node_ip"] == mine and node["state"] == "ALIVE" for node in nodes):
        raise ConnectionError(f"{head} knows no living node {mine}")


def station() -> None:
    """The control process answers on its socket."""
    from pathlib import Path

    from posa_vla.robot.station.client import ask

    ask(Path(os.environ["POSA_ROBOT_SOCKET"]), {"command": "status"}, timeout=8)


CHECKS = {check.__name__: check for check in (mlflow, prefect, prefect_services, worker, ray_head, ray_worker, station)}

if __name__ == "__main__":
    try:
        CHECKS[sys.argv[1]]()
    except Exception as error:
        sys.exit(f"{sys.argv[1]}: {type(error).__name__}: {error}")
