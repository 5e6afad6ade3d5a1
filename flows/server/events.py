"""What a Prefect server is told besides the runs: automations on it notify people, and propose a retraining."""

from __future__ import annotations

import os
from typing import Any

from posa_vla.console import say

INGESTED = "posa.data.ingested"
APPROVAL_NEEDED = "posa.approval.needed"
PROPOSED = "posa.retraining.proposed"

_STORE = "posa.episode-store"
# An announcement may not hold up the work that it announces.
_TIMEOUT_SECONDS = 5.0


def data_ingested(batch: str, episodes: int, target: str) -> bool:
    """Tells of a batch that has come into the episode store.

    Args:
        batch: Its digest.
        episodes: How many it holds.
        target: Deployment target whose task they show.

    Returns:
        Whether a server has taken it; see `_emit`.
    """
    return _emit(INGESTED, _STORE, {"batch": batch, "episodes": episodes, "target": target})


def approval_needed(target: str, pending: str) -> bool:
    """Tells of a signed record that waits for approvals, again at each run that finds it waiting.

    Args:
        target: Deployment target.
        pending: What is missing and how to give it, in words.

    Returns:
        Whether a server has taken it; see `_emit`.
    """
    return _emit(APPROVAL_NEEDED, f"posa.target.{target}", {"target": target, "pending": pending})


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
