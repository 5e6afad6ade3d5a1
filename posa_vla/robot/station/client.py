"""Ask a robot's control process something by its local socket; needs nothing but Python."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from posa_vla.errors import BadInput, PosaError
from posa_vla.json_reader import LARGEST_RECORD, decode_json


def ask(
    path: Path, request: dict[str, Any], *, timeout: float, said: Callable[[str], None] = lambda line: None
) -> dict[str, Any]:
    """Sends one request and waits for its result.

    Args:
        path: The socket of the robot's `posa robot run`: `socket` in its `robot.yaml`, or `--socket`.
        request: `{"command": "status"}` or `{"command": "episodes", "episodes": N}`.
        timeout: Seconds of silence after which the station counts as gone.
        said: Called with each line of progress.

    Returns:
        The station's document: see posa_vla/robot/station/report.py.

    Raises:
        BadInput: The station does not take the request.
        PosaError: Nobody answers, or the request failed.
    """
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(timeout)
            connection.connect(str(path))
            connection.sendall(json.dumps(request).encode() + b"\n")
            with connection.makefile("rb") as lines:
                while line := lines.readline(LARGEST_RECORD + 1):
                    answer = decode_json(line, f"the answer of the station at {path}", limit=LARGEST_RECORD)
                    if "said" in answer:
                        said(str(answer["said"]))
                    elif "refused" in answer:
                        raise BadInput(f"the station at {path} refuses the request: {answer['refused']}")
                    elif "error" in answer:
                        raise PosaError(f"the station at {path}: {answer['error']}")
                    else:
                        result: dict[str, Any] = answer["result"]
                        return result
    except (OSError, ValueError, LookupError, TypeError) as error:  # nobody, or something else than a station
        raise PosaError(
            f"the station at {path} does not answer ({error}): is its `posa robot run` up, and is this its "
            "socket (`socket` in robot.yaml, or --socket)?"
        ) from None
    raise PosaError(f"the station at {path} ended before it had answered; the robot holds, ask again")
