"""What a Prefect server is told besides the runs: automations on it notify people, and propose a retraining."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import Any

from posa_vla.console import say
from posa_vla.pipeline.announcements import Announcement, ApprovalNeeded, DataIngested

INGESTED = "posa.data.ingested"
APPROVAL_NEEDED = "posa.approval.needed"
PROPOSED = "posa.retraining.proposed"

_STORE = "posa.episode-store"
# An announcement may not hold up the work that it announces.
_TIMEOUT_SECONDS = 5.0


def announce(announcement: Announcement) -> bool:
    """Tells the server what a step announces.

    Returns:
        Whether a server has taken it; see `_emit`.
    """
    match announcement:
        case DataIngested():
            return _emit(INGESTED, _STORE, asdict(announcement))
        case ApprovalNeeded():
            return _emit(APPROVAL_NEEDED, f"posa.target.{announcement.target}", asdict(announcement))


def retraining_proposed(target: str, new_episodes: int, proposal: str) -> bool:
    """Tells of a proposal that waits for a person.

    Args:
        target: Deployment target.
        new_episodes: Episodes that its newest data version does not hold.
        proposal: What to decide, in words.

    Returns:
        Whether a server has taken it; see `_emit`.
    """
    payload = {"target": target, "new_episodes": new_episodes, "proposal": proposal}
    return _emit(PROPOSED, f"posa.target.{target}", payload)


def _emit(event: str, resource: str, payload: dict[str, Any]) -> bool:
    """Hands an event to the server of `PREFECT_API_URL`; without one nothing happens, and a failure is only a line.

    The server has it when this returns. Prefect's `emit_event` queues it for a thread instead, which a command that
    ends at once would have to drain, and which nobody hears of when it fails.
    """
    url = os.environ.get("PREFECT_API_URL")
    if not url:
        return False
    try:
        from prefect.client.orchestration import get_client
        from prefect.events import Event
        from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

        message = Event(event=event, resource={"prefect.resource.id": resource}, payload=payload)
        with (
            temporary_settings({PREFECT_API_URL: url, PREFECT_CLIENT_MAX_RETRIES: 0}),
            get_client(sync_client=True, httpx_settings={"timeout": _TIMEOUT_SECONDS}) as client,
        ):
            client.request("POST", "/events", json=[message.model_dump(mode="json")])
    except Exception as error:  # whatever Prefect, HTTP or the network come up with
        say(f"Prefect was not told of {event}, and the work goes on: {type(error).__name__}: {error}")
        return False
    return True
