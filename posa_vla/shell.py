"""What this process and its children take over of other programs' variables: what docs/servers.md names.

Servers are chosen by `POSA_*` settings alone. A person's shell often has variables of another project's Prefect, Ray or
MLflow, of a cluster's network, or of the git hook that started us; each of these would decide where we write.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping

from posa_vla.interpreter import own_python
from posa_vla.settings import Settings

# Whose variables stay out, in capitals or not: programs that we start, and libraries that read them when imported.
# Uvicorn, which serves Prefect's and MLflow's pages, takes every option of its own from one too.
_THEIRS = ("DVC_", "GIT_", "GLOO_", "MLFLOW_", "NCCL_", "PREFECT_", "RAY_", "UVICORN_", "WEB_CONCURRENCY")

# What says how to reach a server is taken over where that server is configured.
_OF_PREFECT = (
    "PREFECT_API_AUTH_STRING",
    "PREFECT_API_SSL_CERT_FILE",
    "PREFECT_API_TLS_INSECURE_SKIP_VERIFY",
    "PREFECT_CLIENT_CUSTOM_HEADERS",
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY",
    "PREFECT_LOGGING_LEVEL",
    "PREFECT_RESULTS_DEFAULT_SERIALIZER",
    "PREFECT_RESULTS_DEFAULT_STORAGE_BLOCK",
    "PREFECT_RESULTS_PERSIST_BY_DEFAULT",
    "PREFECT_WORKER_WEBSERVER_HOST",
)
_OF_MLFLOW = (
    "MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES",
    "MLFLOW_HTTP_REQUEST_TIMEOUT",
    "MLFLOW_S3_ENDPOINT_URL",
    "MLFLOW_TRACKING_CLIENT_CERT_PATH",
    "MLFLOW_TRACKING_INSECURE_TLS",
    "MLFLOW_TRACKING_PASSWORD",
    "MLFLOW_TRACKING_SERVER_CERT_PATH",
    "MLFLOW_TRACKING_TOKEN",
    "MLFLOW_TRACKING_USERNAME",
)
_OF_RAY = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
# A key of Prefect Cloud; a server of one's own would refuse it.
_OF_CLOUD, _CLOUD = "PREFECT_API_KEY", "prefect.cloud"

_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def taken_over(settings: Settings) -> tuple[str, ...]:
    """Variables of Prefect, MLflow and Ray that reach us: those that say how to reach a configured server."""
    prefect = _OF_PREFECT if settings.prefect_api_url else ()
    cloud = (_OF_CLOUD,) if _CLOUD in settings.prefect_api_url else ()
    mlflow = _OF_MLFLOW if settings.mlflow_tracking_uri else ()
    return (*prefect, *cloud, *mlflow, *(_OF_RAY if settings.ray_address else ()))


def environment(settings: Settings, variables: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of this process and of what it starts.

    Nothing calls home, no user's own Prefect profile is read, nothing unpickles a model, and loopback goes through no
    proxy. What Prefect's worker gives its flow runs, and a cluster its jobs, comes later and stays.

    Args:
        settings: Say which servers there are.
        variables: Of the shell; by default this process's.
    """
    shell = dict(os.environ if variables is None else variables)
    wanted = taken_over(settings)
    kept = {k: v for k, v in shell.items() if k in wanted or not k.upper().startswith(_THEIRS)}
    kept = own_python(_without_loopback(kept))
    kept |= {
        "DO_NOT_TRACK": "1",
        "DVC_NO_ANALYTICS": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
        "RAY_USAGE_STATS_ENABLED": "0",
        "PREFECT_HOME": str(settings.home.expanduser().resolve() / "prefect"),
        # Prefect's page shows a run's lines; on the terminal they would be there twice.
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_LOGGING_LEVEL": "ERROR",
    }
    if settings.prefect_api_url:
        kept["PREFECT_API_URL"] = settings.prefect_api_url
    return kept


def enter(settings: Settings) -> None:
    """Makes `environment` this process's own; libraries read it when they are first imported."""
    wanted = environment(settings)
    for name in os.environ.keys() - wanted.keys():
        del os.environ[name]
    os.environ.update(wanted)


def _without_loopback(variables: dict[str, str]) -> dict[str, str]:
    """Variables whose proxies are not asked for this machine's own servers.

    A SOCKS proxy is left out where the package that speaks to one is missing: Prefect's client fails on it even where
    nothing goes through it.
    """
    proxies = [name for name in variables if name.upper() in _PROXIES]
    if not proxies:
        return variables
    socks = [name for name in proxies if variables[name].lower().startswith("socks")]
    if socks and importlib.util.find_spec("socksio") is None:
        variables = {name: value for name, value in variables.items() if name not in socks}
    direct = variables.get("no_proxy") or variables.get("NO_PROXY") or ""
    if direct.strip() != "*":
        named = [name.strip() for name in direct.split(",") if name.strip()]
        direct = ",".join([*named, *(name for name in _LOOPBACK if name not in named)])
    return {**variables, "no_proxy": direct, "NO_PROXY": direct}
