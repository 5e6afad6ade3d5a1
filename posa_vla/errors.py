"""Exceptions that carry the exit code of the command that met them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class PosaError(Exception):
    """Something failed that the message explains: what was got, what was expected, what to do."""

    exit_code = 1


class BadInput(PosaError):
    """A file, flag, config key or packet is not acceptable; nothing was changed."""

    exit_code = 2


class Refused(PosaError):
    """Something did not verify (signature, digest, freshness, compatibility); the state before it stands."""

    exit_code = 1


class LaterVersion(BadInput):
    """A later posa-vla wrote it: an upgrade reads it, and nothing is wrong with it."""


class LaterRecord(Refused):
    """A record with a good signature that a later posa-vla wrote: an upgrade reads it."""


class Busy(PosaError):
    """Another run holds the workspace."""

    exit_code = 75


def did_you_mean(got: str, known: Iterable[str]) -> str:
    """A hint for an unknown name: the closest known one, else the list of all of them."""
    names = sorted(known)
    close = difflib.get_close_matches(got, names, n=1, cutoff=0.6)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(names)}"


def to_install(extras: str) -> str:
    """How extras of the distribution are installed, for messages; a checkout has a command of its own.

    Args:
        extras: One extra, or several with commas between them.
    """
    return f"pip install 'posa-vla[{extras}]' (in a checkout: make setup)"
