"""The local socket of a robot's control process: others on the machine ask it for episodes and how it stands."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from posa_vla.errors import BadInput, PosaError
from posa_vla.robot.control.loop import EpisodeReport
from posa_vla.schema import Closed, parse_json

_LONGEST_REQUEST = 4096
# A client that sends nothing for so long (seconds) is hung up on.
_PATIENCE = 10.0


class Request(Closed):
    """What may be asked of a station.

    Attributes:
        command: `status`, answered at once, or `episodes`, run when the robot is between episodes.
        episodes: How many.
    """

    command: Literal["status", "episodes"]
    episodes: int = Field(default=1, ge=1, le=1000)


# Runs episodes, says each one's outcome, and returns the document for the asker.
Work = Callable[[int, Callable[[EpisodeReport], None]], dict[str, Any]]


@dataclass(frozen=True)
class _Waiting:
    request: Request
    connection: socket.socket
    done: threading.Event


def _send(connection: socket.socket, answer: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):  # who asked may have gone; the robot's work stands
        connection.sendall(json.dumps(answer).encode() + b"\n")


class Station:
    """Takes requests on a Unix socket, and hands them to the one thread that moves the robot.

    The socket is for the machine's own user and group: who may write to it may have the robot run episodes of the
    installed release, and nothing else.
    """

    def __init__(self, path: Path, line: Callable[[EpisodeReport], str], status: Callable[[], dict[str, Any]]) -> None:
        """Prepares the socket; see `open`.

        Args:
            path: Where the socket appears.
            line: An episode in words.
            status: The document for `status`.
        """
        self._path = path
        self._line = line
        self._status = status
        self._waiting: queue.Queue[_Waiting] = queue.Queue()

    @contextlib.contextmanager
    def open(self) -> Iterator[None]:
        """Listens until the block ends; takes the place of a socket that a killed process left.

        Raises:
            BadInput: The socket cannot be made there.
        """
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            if self._path.exists() and not self._path.is_socket():
                raise FileExistsError("something else lies there, and is left as it is; choose another path")
            self._path.unlink(missing_ok=True)
            listener.bind(str(self._path))
            os.chmod(self._path, 0o660)
        except OSError as error:
            listener.close()
            raise BadInput(f"no socket can be made at {self._path}: {error}") from None
        listener.listen()
        threading.Thread(target=self._accept, args=(listener,), daemon=True, name="station").start()
        try:
            yield
        finally:
            listener.close()
            self._path.unlink(missing_ok=True)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:  # closed
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection:
            connection.settimeout(_PATIENCE)
            try:
                with connection.makefile("rb") as lines:
                    data = lines.readline(_LONGEST_REQUEST)
                request = parse_json(Request, data, "request")
            except (BadInput, OSError) as error:
                _send(connection, {"refused": str(error)})
                return
            if request.command == "status":
                _send(connection, {"result": self._status()})
                return
            waiting = _Waiting(request, connection, threading.Event())
            self._waiting.put(waiting)
            waiting.done.wait()

    def serve(self, seconds: float, work: Work) -> None:
        """Carries out requests until `seconds` are over; a request that is under way then is finished."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                waiting = self._waiting.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                return
            connection = waiting.connection

            def said(report: EpisodeReport, connection: socket.socket = connection) -> None:
                _send(connection, {"said": self._line(report)})

            try:
                _send(connection, {"result": work(waiting.request.episodes, said)})
            except PosaError as error:
                _send(connection, {"error": str(error)})
            finally:
                waiting.done.set()
