"""The Robot protocol, and how a driver is found by its name."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from posa_vla.episodes.embodiment import Embodiment
from posa_vla.errors import BadInput, did_you_mean
from posa_vla.schema import Closed, parse

GROUP = "posa_vla.robots"


class DriverOptions(Closed):
    """What a robot's owner may say to its driver: `options` in `robot.yaml`.

    A driver that has more options declares a subclass as its attribute `Options`, and finds it, parsed, in
    `RobotOptions.own`. Unknown keys are refused before anything is connected.
    """

    task: str = Field(default="pick", min_length=1, description="Task of the episodes.")


@dataclass(frozen=True)
class RobotOptions:
    """What a driver is opened with.

    Attributes:
        embodiment: A shipped embodiment's name or the path of an embodiment file.
        task: Name of the task.
        image_size: Side of the square images that a driver which can choose delivers (pixels): those that the release
            was judged on, where it says so. A real camera's driver delivers what its camera gives.
        objects: Objects of a simulated scene.
        max_steps: Control steps after which an episode is over.
        own: The driver's own options, of the class that it declares; None where it is opened without any.
    """

    embodiment: str
    task: str
    image_size: int
    objects: int = 3
    max_steps: int = 60
    own: DriverOptions | None = None


@dataclass(frozen=True)
class Reading:
    """What a robot saw at one instant.

    Attributes:
        time: When, in seconds of the robot's own clock (`Robot.now`).
        images: Camera role -> uint8 (H, W, 3), RGB; a camera that gave nothing is absent.
        state: float32 (S,), the embodiment's state channels.
        instruction: What to do, in words.
        success: Whether the task is done; None where the driver cannot know.
        ended: Whether the episode is over.
    """

    time: float
    images: Mapping[str, NDArray[np.uint8]]
    state: NDArray[np.float32]
    instruction: str
    success: bool | None = None
    ended: bool = False


class Robot(Protocol):
    """One robot, real or not.

    Life cycle: `connect` once; for each episode `start_episode`, then `observe` and `apply` in turn, with `hold`
    wherever there is nothing safe to apply; `disconnect` at the end, also after an error, be it of `connect`. `apply`
    and `hold` last one control period and return at its end: the driver keeps the pace, its caller never sleeps. `hold`
    and `disconnect` may be called at any time after `connect`, any number of times, and raise nothing for a robot that
    already stands. A driver is constructed from `RobotOptions`, may declare options of its own (`DriverOptions`), does
    no work before `connect`, and owns its clock: a simulator's stands still while a policy thinks. One that knows the
    size of its pictures beforehand has `camera_sizes` too (see `posa_vla.robot.control.pictures.KnowsCameras`); it is
    the size that a release's health is tried at.
    """

    @property
    def embodiment(self) -> Embodiment:
        """Capabilities and limits: cameras, channels with units and ranges, control rate."""
        ...

    @property
    def can_move(self) -> bool:
        """Whether an applied action moves anything, be it in simulation."""
        ...

    def connect(self) -> None:
        """Opens the transport.

        Raises:
            BadInput: The robot, or a library that it needs, is not there.
        """
        ...

    def start_episode(self, seed: int) -> None:
        """Brings the robot to its start; the seed fixes the scene where the driver can arrange one."""
        ...

    def now(self) -> float:
        """Seconds of the robot's clock, which never goes back."""
        ...

    def observe(self) -> Reading:
        """The newest reading; cameras that gave nothing are absent from it."""
        ...

    def apply(self, action: NDArray[np.float32]) -> None:
        """Applies float32 (A,), within the embodiment's limits, for one control period.

        Raises:
            BadInput: Wrong shape, not finite, or outside the limits.
        """
        ...

    def hold(self) -> None:
        """Keeps the present pose and grip for one control period."""
        ...

    def disconnect(self) -> None:
        """Leaves the robot standing and closes the transport."""
        ...


def require_action(embodiment: Embodiment, action: NDArray[np.float32]) -> None:
    """Checks an action as every driver does before it applies one.

    Raises:
        BadInput: Wrong shape, not finite, or outside the embodiment's limits.
    """
    low, high = embodiment.action_limits()
    if action.shape != low.shape or not np.isfinite(action).all():
        raise BadInput(f"action {action.tolist()}: expected {len(low)} finite numbers")
    if (action < low).any() or (action > high).any():
        raise BadInput(f"action {action.tolist()} is outside its limits {low.tolist()} to {high.tolist()}")


def synthetic_reading(embodiment: Embodiment, image_size: int, instruction: str, time: float = 0.0) -> Reading:
    """A made-up reading: grey images, every state channel in the middle of its range."""
    middle = [channel.middle for channel in embodiment.state]
    grey = np.full((image_size, image_size, 3), 128, np.uint8)
    return Reading(time, dict.fromkeys(embodiment.cameras, grey), np.array(middle, np.float32), instruction)


def find_driver(name: str) -> Any:
    """The class that an installed distribution declares under the entry point group `posa_vla.robots`.

    Raises:
        BadInput: No such driver.
    """
    known = {point.name: point for point in importlib.metadata.entry_points(group=GROUP)}
    if not known:
        raise BadInput(
            f"no distribution declares a robot driver ({GROUP}): install posa-vla (make setup), do not copy it"
        )
    if name not in known:
        raise BadInput(f"unknown driver {name!r}; {did_you_mean(name, known)}")
    return known[name].load()


def open_driver(name: str, options: RobotOptions) -> Robot:
    """Constructs the driver of a name.

    Raises:
        BadInput: No such driver.
    """
    return cast(Robot, find_driver(name)(options))


def driver_options(name: str, own: Mapping[str, Any], where: str) -> DriverOptions:
    """What a robot's owner says to the driver of a name, as the driver declares it.

    Args:
        name: Of the driver.
        own: Option -> value.
        where: Names their origin in the message.

    Raises:
        BadInput: No such driver, or it does not know an option, or a value does not fit.
    """
    schema: type[DriverOptions] = getattr(find_driver(name), "Options", DriverOptions)
    return parse(schema, dict(own), where)
