"""What a step tells people of while it runs; the flow or command that calls it says where it is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class DataIngested:
    """A batch has come into the episode store.

    Attributes:
        batch: Digest of the batch.
        episodes: Number of episodes in the batch.
        target: Deployment target whose task they show.
    """

    batch: str
    episodes: int
    target: str


@dataclass(frozen=True)
class ApprovalNeeded:
    """A signed record waits for approvals; told again by each run that finds it waiting.

    Attributes:
        target: Deployment target.
        pending: What is missing and how to give it, in words.
    """

    target: str
    pending: str


Announcement = DataIngested | ApprovalNeeded
# Takes an announcement; it may not raise, nor hold up the work that it tells of.
Announce = Callable[[Announcement], object]


def silent(announcement: Announcement) -> None:
    """Tells nobody."""
