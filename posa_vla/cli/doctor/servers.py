"""What `posa doctor` asks the configured servers: whether they answer, know this machine, and fit its packages."""

from __future__ import annotations

import base64
import importlib.metadata
import os
import re
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from posa_vla.cli.doctor.finding import CONNECT, READ, Clocks, Finding, Server, Status, innermost, without_credentials
from posa_vla.cli.doctor.stores import check_store
from posa_vla.errors import BadInput, PosaError, to_install
from posa_vla.json_reader import LARGEST_RECORD, decode_json
from posa_vla.settings import Settings

if TYPE_CHECKING:
    import requests

# Seconds for all servers together: bounds what no timeout of a request does (names that do not resolve, answers that
# trickle).
_DEADLINE = 10.0
# Seconds between two clocks. TUF's shortest metadata lives far longer, S3 refuses signatures at 15 minutes: earlier
# than either, and later than a slow answer.
_CLOCKS_APART = 60.0

_SECRETS = ("PREFECT_API_AUTH_STRING", "MLFLOW_TRACKING_PASSWORD", "RAY_AUTH_TOKEN", "AWS_SECRET_ACCESS_KEY")
_SHORTEST_SECRET = 8
_UNFIT = "the credentials for it hold characters that no HTTP header can carry: set them anew"
# What servers come with, and what people type first.
# fmt: off
_KNOWN_SECRETS = {
    "12345678", "123456789", "admin", "admin123", "adminadmin", "administrator", "changeit", "changeme",
    "changeme123", "default", "letmein", "minio123", "minioadmin", "mlflow", "mlflowadmin", "password", "password1",
    "password123", "password1234", "postgres", "posa", "posaposa", "posa-vla", "prefect", "qwertyuiop",
    "rustfsadmin", "secret", "secretkey", "test", "testing", "testtest",
}
# fmt: on


def _ask(server: Server, clocks: Clocks, method: str, path: str, **options: Any) -> requests.Response:
    """A server's answer to one request, whatever it is."""
    import requests

    if not server.place.startswith(("http://", "https://")):
        raise PosaError("is no HTTP address: expected http://HOST:PORT, correct the setting")
    try:
        answer = requests.request(method, server.place.rstrip("/") + path, timeout=(CONNECT, READ), **options)
    except UnicodeError:
        raise PosaError(_UNFIT) from None
    except requests.Timeout:
        raise PosaError(
            f"no answer within {READ:.0f} s: start the server, correct the setting, or ask again if it has just started"
        ) from None
    except (requests.RequestException, ValueError) as error:
        raise PosaError(f"does not answer ({innermost(error)}): start the server, or correct the setting") from None
    clocks.read(server.name, answer.headers.get("Date"))
    return answer


def _authorization(value: str) -> Callable[[requests.PreparedRequest], requests.PreparedRequest]:
    """A header as `requests` takes it where it must not look for credentials in ~/.netrc instead."""
    # Here, because libraries quote the header that they refuse.
    if not (value.isascii() and value.isprintable()):
        raise PosaError(_UNFIT)

    def sign(request: requests.PreparedRequest) -> requests.PreparedRequest:
        if value:
            request.headers["Authorization"] = value
        return request

    return sign


def _unexpected(answer: requests.Response, expected: str) -> PosaError:
    said = " ".join(answer.text.split())[:120]
    return PosaError(
        f"answers {answer.request.path_url} with status {answer.status_code}, {said!r}: expected {expected}"
    )


def _version(answer: requests.Response, text: Any, package: str, parts: int, expected: str) -> str:
    """The server's version, of which so many parts must be those of the package that is installed here."""
    if answer.status_code != 200 or not isinstance(text, str) or not re.match(r"\d+\.\d+", text):
        raise _unexpected(answer, expected)
    try:
        ours = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        raise PosaError(f"runs {text}, and {package} is not installed here: {to_install('platform')}") from None
    if text.split(".")[:parts] != ours.split(".")[:parts]:
        wanted = ".".join(ours.split(".")[:parts])
        raise PosaError(f"runs {text}, expected {wanted} like the {package} {ours} here: use one image for both")
    return f"version {text}"


def _json(answer: requests.Response) -> Any:
    try:
        return decode_json(answer.content, "the answer", limit=LARGEST_RECORD)
    except BadInput:
        return None


def _prefect(server: Server, clocks: Clocks) -> str:
    string, key = os.environ.get("PREFECT_API_AUTH_STRING", ""), os.environ.get("PREFECT_API_KEY", "")
    health = _ask(server, clocks, "GET", "/health", auth=_authorization(""))
    # Without /api at its end the address is that of Prefect's pages, which answer anything with themselves.
    if health.status_code != 200 or _json(health) is not True:
        raise _unexpected(
            health, "`true` from Prefect's API: correct the address (http://HOST:4200/api) or see its log"
        )
    # The header that Prefect's own client sends.
    basic = f"Basic {base64.b64encode(string.encode()).decode()}" if string else ""
    header = basic or (f"Bearer {key}" if key else "")
    answer = _ask(server, clocks, "GET", "/admin/version", auth=_authorization(header))
    if answer.status_code == 401:
        got = "is not the server's" if string else "is not set"
        cloud = ", and unset PREFECT_API_KEY, which is for Prefect Cloud and refused by a server" if key else ""
        raise PosaError(
            f"refuses this machine (401): PREFECT_API_AUTH_STRING {got}; set it to what the server has in "
            f"PREFECT_SERVER_API_AUTH_STRING{cloud}"
        )
    return _version(answer, _json(answer), "prefect", 2, "a version of Prefect: correct the address")


def _mlflow(server: Server, clocks: Clocks) -> str:
    user, password = os.environ.get("MLFLOW_TRACKING_USERNAME", ""), os.environ.get("MLFLOW_TRACKING_PASSWORD", "")
    token = os.environ.get("MLFLOW_TRACKING_TOKEN", "")
    auth: Any = (user, password) if user or password else _authorization(f"Bearer {token}") if token else None

    def require_known(answer: requests.Response) -> None:
        if answer.status_code == 401:
            got = "are not known to it" if user or password else "are not set"
            raise PosaError(
                f"refuses this machine (401): MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD {got}; set them to "
                "an account of this server"
            )

    # Where MLflow asks for accounts, it asks here too.
    answer = _ask(server, clocks, "GET", "/version", auth=auth)
    require_known(answer)
    version = _version(answer, answer.text.strip(), "mlflow", 2, "a version of MLflow: correct the address")
    answer = _ask(server, clocks, "POST", "/api/2.0/mlflow/experiments/search", json={"max_results": 1000}, auth=auth)
    require_known(answer)
    if answer.status_code == 403 and "Invalid Host header" in answer.text:
        host = urlsplit(without_credentials(server.place)).netloc
        raise PosaError(
            f"does not answer to the name {host} (403 Invalid Host header): add it to MLFLOW_SERVER_ALLOWED_HOSTS on "
            "the server and restart it"
        )
    if answer.status_code != 200:
        raise _unexpected(answer, "its experiments (200): see the server's log, or let this account read them")
    return version + _lost_folders(server, _json(answer))


def _lost_folders(server: Server, found: Any) -> str:
    """What is to be said of experiments whose artifacts lie in a folder of the server's machine: a move loses them.

    Raises:
        PosaError: The server runs on this machine, and such a folder is not there.
    """
    experiments = found.get("experiments", []) if isinstance(found, dict) else []
    places = {str(item.get("name")): str(item.get("artifact_location")) for item in experiments}
    # The experiment that MLflow makes by itself is none of ours, and empty.
    folders = {
        name: Path(unquote(urlsplit(place).path))
        for name, place in places.items()
        if name != "Default" and place.startswith(("file:", "/"))
    }
    if not folders:
        return ""
    here = urlsplit(server.place).hostname in {"localhost", "127.0.0.1", "::1"}
    lost = [(name, path) for name, path in folders.items() if here and not path.exists()]
    if lost:
        name, path = lost[0]
        raise PosaError(
            f"names {path} for the files of experiment {name!r} ({len(lost)} such), which is not there: if it was "
            f"moved, leave a link in its place: ln -s NEW_PLACE {path}"
        )
    name, path = next(iter(folders.items()))
    return f"; keeps files of {len(folders)} experiments in folders of its machine, like {path}: move none of them"


def _ray_token() -> str:
    """The token as Ray's client finds it."""
    if os.environ.get("RAY_AUTH_MODE", "") != "token":
        return ""
    if token := os.environ.get("RAY_AUTH_TOKEN", ""):
        return token
    with suppress(OSError):
        return (
            Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or "~/.ray/auth_token")
            .expanduser()
            .read_text(encoding="utf-8")
            .strip()
        )
    return ""


def _ray(server: Server, clocks: Clocks) -> str:
    # Not through Ray's job client, which waits half a minute for a head that has frozen.
    token = _ray_token()
    answer = _ask(server, clocks, "GET", "/api/version", auth=_authorization(f"Bearer {token}" if token else ""))
    if answer.status_code in (401, 403):
        got = "the token is not the cluster's" if token else "no token was sent"
        raise PosaError(
            f"refuses this machine ({answer.status_code}), {got}: set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN to the "
            "cluster's own"
        )
    said = _json(answer)
    version = said.get("ray_version") if isinstance(said, dict) else None
    return _version(answer, version, "ray", 3, "a version of Ray: correct the address (the Jobs API, http://HOST:8265)")


def _secrets() -> Finding:
    """Whether the secrets that are set are worth the name; their values are never shown."""
    given = [name for name in _SECRETS if name in os.environ]
    faults = []
    for name in given:
        # Prefect's is a user's name and password in one.
        value = os.environ[name].rpartition(":")[2] if name == "PREFECT_API_AUTH_STRING" else os.environ[name]
        value = value.strip()
        if not value:
            faults.append(f"{name} is empty")
        elif value.lower() in _KNOWN_SECRETS:
            faults.append(f"{name} is a well-known default")
        elif len(value) < _SHORTEST_SECRET:
            faults.append(f"{name} is shorter than {_SHORTEST_SECRET} characters")
    if faults:
        remedy = "make new ones (openssl rand -hex 24) and set them on the servers and here; unset what is not used"
        return Finding("secrets", "unsound", f"{', '.join(faults)}: {remedy}")
    if not given:
        return Finding("secrets", "absent", f"none of {', '.join(_SECRETS)} is set")
    return Finding("secrets", "sound", f"{', '.join(given)}: none is empty, short or well known")


def _clock(clocks: Clocks) -> Finding:
    ahead = dict(clocks.ahead)
    wrong = {name: seconds for name, seconds in ahead.items() if abs(seconds) > _CLOCKS_APART}
    if wrong:
        told = ", ".join(f"{abs(s):.0f} s {'behind' if s > 0 else 'ahead of'} {name}" for name, s in wrong.items())
        return Finding(
            "clock",
            "unsound",
            f"this machine is {told}, expected at most {_CLOCKS_APART:.0f} s: set both clocks by NTP (timedatectl "
            "set-ntp true); a release would look expired or from the future, and S3 refuses signatures",
        )
    if not ahead:
        return Finding("clock", "absent", "no server told its time")
    return Finding("clock", "sound", f"within {max(1, *map(abs, ahead.values())):.0f} s of {', '.join(ahead)}")


def _finding(server: Server, status: Status, told: str) -> Finding:
    return Finding(server.name, status, without_credentials(f"{server.place} ({server.setting}): {told}"))


def _look(server: Server, clocks: Clocks) -> Finding:
    if server.check is _mlflow and not server.place.startswith(("http://", "https://")):
        return _finding(server, "absent", "MLflow opens this store itself, there is no server to ask")
    try:
        return _finding(server, "sound", server.check(server, clocks))
    except PosaError as error:
        return _finding(server, "unsound", str(error))
    except ModuleNotFoundError as error:
        return _finding(server, "unsound", f"needs the package {error.name!r}: {to_install('platform')}")
    except Exception as error:  # a server may answer anything, and the other findings are wanted all the same
        return _finding(server, "unsound", f"{type(error).__name__}: {error}")


def examine_servers(settings: Settings) -> list[Finding]:
    """Asks all configured servers at once; one that stays silent is unsound after ten seconds.

    Returns:
        One finding a server, then clock and secrets; one alone where no server is configured.
    """
    servers = [
        Server("Prefect", "POSA_PREFECT_API_URL", settings.prefect_api_url, _prefect),
        Server("MLflow", "POSA_MLFLOW_TRACKING_URI", settings.mlflow_tracking_uri, _mlflow),
        Server("Ray", "POSA_RAY_ADDRESS", settings.ray_address, _ray),
        Server("storage", "POSA_STORAGE", settings.storage, check_store),
        Server("DVC remote", "POSA_DVC_REMOTE", settings.dvc_remote, check_store),
        Server("channel", "POSA_CHANNEL", settings.channel, check_store),
    ]
    if not any(server.place for server in servers):
        return [Finding("servers", "absent", "none is configured, all is embedded (docs/servers.md)")]
    clocks, findings = Clocks(), dict[str, Finding]()

    def look(server: Server) -> None:
        findings[server.name] = _look(server, clocks)

    deadline = time.monotonic() + _DEADLINE
    # Daemons: what hangs must not hold the process.
    asked = [threading.Thread(target=look, args=(server,), daemon=True) for server in servers if server.place]
    for thread in asked:
        thread.start()
    for thread in asked:
        thread.join(max(0.0, deadline - time.monotonic()))
    answered = dict(findings)
    for server in servers:
        if not server.place:
            answered[server.name] = Finding(server.name, "absent", f"embedded ({server.setting} is not set)")
        elif server.name not in answered:
            told = f"not done within {_DEADLINE:.0f} s: see whether its name resolves, and what stands between"
            answered[server.name] = _finding(server, "unsound", told)
    return [*(answered[server.name] for server in servers), _clock(clocks), _secrets()]
