"""What the looks of `posa doctor` share: what is looked at, and what is said of it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Literal

Status = Literal["sound", "absent", "unsound"]

# Seconds to connect to a server, and for its answer to begin.
CONNECT, READ = 3.0, 6.0


@dataclass(frozen=True)
class Finding:
    """One thing looked at; `absent` is no fault, it is not there yet or not wanted."""

    name: str
    status: Status
    detail: str


@dataclass
class Clocks:
    """How many seconds each server's clock is ahead of this machine's; filled by several threads."""

    ahead: dict[str, float] = field(default_factory=dict)

    def read(self, server: str, date: str | None) -> None:
        """Takes an HTTP `Date` header; what is none is left out."""
        with suppress(TypeError, ValueError):
            if date:
                self.ahead[server] = parsedate_to_datetime(date).timestamp() - time.time()


@dataclass(frozen=True)
class Server:
    """One setting's server; the check returns what is sound, or raises what is not."""

    name: str
    setting: str
    place: str
    check: Callable[[Server, Clocks], str]


def without_credentials(text: str) -> str:
    """Text whose URLs have lost the `user:password@` that somebody may have put into one."""
    return re.sub(r"(?<=://)[^/@\s]*@", "", text)


def innermost(error: BaseException) -> str:
    """The innermost cause: libraries wrap `connection refused` in several layers of their own names."""
    while error.__context__ is not None:
        error = error.__context__
    return str(error) or type(error).__name__
