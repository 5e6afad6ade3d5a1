"""What a robot tells of itself: one document, left where its owners look (a directory or S3)."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from typing import Any, Literal

from pydantic import Field

from posa_vla.errors import BadInput, PosaError
from posa_vla.objects.contract import Objects
from posa_vla.robot.station.session import Session
from posa_vla.schema import Closed

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


class Running(Closed):
    """The release that a robot runs.

    Attributes:
        number: Of the release.
        bundle_digest: Of its policy.
    """

    number: int
    bundle_digest: str


class RobotReport(Closed):
    """The state of a robot at a moment.

    Attributes:
        schema_version: Of this document.
        robot: Its name.
        target: Deployment target that it belongs to.
        at: UTC, RFC 3339.
        release: The release that the robot runs; null where it runs none.
        update: How the last update ended; null before the first.
        reason: Why the update ended so, and why the robot runs nothing, in words; empty where all is well.
        episodes: Number of episodes since the process started.
        successes: Number of those that succeeded; null where the driver cannot know.
        upscaled: Camera role -> (height, width) of pictures that were smaller than the release was judged on, where
            that was allowed (from version 2 on).
    """

    schema_version: Literal[1, 2] = 2
    robot: str
    target: str
    at: str
    release: Running | None
    update: Literal["installed", "unchanged", "refused"] | None
    reason: str
    episodes: int
    successes: int | None
    upscaled: dict[str, tuple[int, int]] = Field(default_factory=dict)


def report_path(robot: str) -> str:
    """Where a robot's newest report lies.

    Raises:
        BadInput: The name has other characters than small letters, digits and hyphens, or is too long.
    """
    if not _NAME.fullmatch(robot):
        raise BadInput(f"robot name {robot!r}: expected small letters, digits and hyphens, at most 63")
    return f"reports/{robot}/latest.json"


class Reporter:
    """Describes a session, and leaves the description; a store that is away never stops the robot."""

    def __init__(
        self, session: Session, robot: str, target: str, objects: Objects | None, say: Callable[[str], None]
    ) -> None:
        """Makes a reporter.

        Args:
            session: What the robot does.
            robot: Its name.
            target: Deployment target that it belongs to.
            objects: Gets `reports/<robot>/latest.json`; nothing is left anywhere if None.
            say: Told when that fails, once in a row.
        """
        self._session = session
        self._robot = robot
        self._target = target
        self._objects = objects
        self._path = report_path(robot)
        self._say = say
        self._failing = False

    def report(self) -> RobotReport:
        """The robot as it is."""
        document: dict[str, Any] = self._session.to_json()
        return RobotReport(
            robot=self._robot,
            target=self._target,
            at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            **{name: document[name] for name in ("release", "update", "reason", "episodes", "successes", "upscaled")},
        )

    def leave(self) -> None:
        """Puts the report in the place of the one before."""
        if self._objects is None:
            return
        try:
            data = json.dumps(self.report().model_dump(mode="json"), indent=1).encode()
            self._objects.put(self._path, data)
            self._failing = False
        except (PosaError, OSError) as error:
            if not self._failing:
                self._say(f"the report could not be left: {error}; the robot goes on")
            self._failing = True
