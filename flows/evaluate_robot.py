"""Episodes on a robot, as a flow of its station: the flow's process asks the process that moves the robot.

Runs in the station's own small environment, which has Prefect and neither torch nor a simulator.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger
from prefect.artifacts import create_table_artifact
from pydantic import Field

from posa_vla.errors import BadInput
from posa_vla.robot.station.client import ask

# Seconds for one episode at most, of which the station is silent; a slow robot's episode takes minutes.
_SILENCE = 900.0


def station_socket() -> Path:
    """Where this machine's robot is asked.

    Raises:
        BadInput: The setting is missing.
    """
    place = os.environ.get("POSA_ROBOT_SOCKET", "")
    if not place:
        raise BadInput(
            "this machine has no robot: set POSA_ROBOT_SOCKET to the socket of its `posa robot run` (`socket` in its "
            "robot.yaml, or --socket)"
        )
    return Path(place)


@flow(name="evaluate-robot")
def evaluate_robot(episodes: int = Field(default=5, ge=1, le=1000)) -> dict[str, Any]:
    """Episodes of the installed release on this station's robot, between two updates.

    Args:
        episodes: How many, one after the other.
    """
    said = get_run_logger().info
    document = ask(station_socket(), {"command": "episodes", "episodes": episodes}, timeout=_SILENCE, said=said)
    create_table_artifact(
        document["rows"],
        key="robot-episodes",
        description=f"{document['robot']}, release {(document['release'] or {}).get('number')}: {episodes} episodes",
    )
    return document
