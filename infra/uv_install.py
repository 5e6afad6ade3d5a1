"""Runs `uv pip install` with the package indexes, wheels and certificates that pip is configured for.

uv reads none of pip's settings, so each is handed over in uv's own name. Where pip has a setting that uv has no
counterpart for, nothing is installed and the exit code is 3. Run by infra/setup.sh with the interpreter of the
environment that is installed into.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

NO_COUNTERPART = 3

# pip's setting: uv's variable, and what separates its values there.
COUNTERPARTS = {
    "index-url": ("UV_DEFAULT_INDEX", " "),
    "extra-index-url": ("UV_INDEX", " "),
    "find-links": ("UV_FIND_LINKS", ","),
    "trusted-host": ("UV_INSECURE_HOST", " "),
    "cert": ("SSL_CERT_FILE", " "),
    "client-cert": ("SSL_CLIENT_CERT", " "),
    "proxy": ("ALL_PROXY", " "),
    "timeout": ("UV_HTTP_TIMEOUT", " "),
    "default-timeout": ("UV_HTTP_TIMEOUT", " "),
    "retries": ("UV_HTTP_RETRIES", " "),
}

# They change what pip says or where it keeps its own files, not what is installed.
WITHOUT_EFFECT = {
    "break-system-packages", "cache-dir", "compile", "config-file", "disable-pip-version-check", "log",
    "no-cache-dir", "no-color", "no-compile", "no-input", "no-warn-script-location", "progress-bar", "quiet",
    "require-virtualenv", "root-user-action", "verbose",
}  # fmt: skip


def read_settings(listing: str) -> dict[str, str]:
    """What `pip install` would use.

    Args:
        listing: Output of `pip config list`: lines such as `global.index-url='https://...'`.

    Returns:
        Value by name. A variable of the environment wins over the section `install`, and that over `global`.
    """
    found: dict[str, str] = {}
    for section in ("global.", "install.", ":env:."):
        for line in listing.splitlines():
            if line.startswith(section):
                name, _, value = line.removeprefix(section).partition("=")
                found[name] = str(ast.literal_eval(value))
    return found


def to_uv(settings: dict[str, str]) -> tuple[dict[str, str], list[str], list[str]]:
    """Pip's settings in uv's terms.

    Returns:
        Variables, flags, and the names of settings without a counterpart.
    """
    # pip takes the best version of all indexes; uv by itself looks no further than the first that has the package.
    variables = {"UV_INDEX_STRATEGY": "unsafe-best-match", "UV_NO_CONFIG": "1"}
    flags: list[str] = []
    unknown: list[str] = []
    for name, value in settings.items():
        if name in COUNTERPARTS:
            variable, separator = COUNTERPARTS[name]
            variables[variable] = separator.join(value.split())
        elif name == "constraint":  # as flags, which add to a -c of the command, where a variable gives way to it
            flags += [flag for path in value.split() for flag in ("--constraint", path)]
        elif name == "no-index":
            flags += ["--no-index"] if value.lower() in {"1", "true", "yes", "on"} else []
        elif name not in WITHOUT_EFFECT:
            unknown.append(name)
    return variables, flags, unknown


def main(arguments: list[str]) -> int:
    """Hands `arguments` to `uv pip install`, and returns its exit code."""
    listing = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, encoding="utf-8", check=True
    )
    variables, flags, unknown = to_uv(read_settings(listing.stdout))
    if unknown:
        print(f"uv has no counterpart for pip's setting {', '.join(unknown)}", file=sys.stderr)
        return NO_COUNTERPART
    uv = str(Path(sys.executable).parent / "uv")
    # A default index of the environment would win over uv's own --index-url.
    arguments = ["--default-index" if argument == "--index-url" else argument for argument in arguments]
    command = [uv, "pip", "install", "--python", sys.executable, *flags, *arguments]
    return subprocess.run(command, env={**os.environ, **variables}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
