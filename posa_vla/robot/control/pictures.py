"""Whether a robot's cameras show as much as a release was judged on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from posa_vla.errors import Refused
from posa_vla.robot.control.robot import Robot

# Camera role -> (height, width) of its pictures, pixels.
Sizes = Mapping[str, tuple[int, int]]


@runtime_checkable
class KnowsCameras(Protocol):
    """What a driver may have besides the Robot protocol, where it knows its pictures before the first one."""

    def camera_sizes(self) -> Sizes:
        """Camera role -> (height, width) of the pictures that it delivers, pixels; connected or not."""
        ...


def sizes_of(images: Mapping[str, NDArray[np.uint8]]) -> Sizes:
    """The sizes of a reading's pictures; a camera that gave nothing has none."""
    return {role: (image.shape[0], image.shape[1]) for role, image in images.items() if image.size}


def camera_sizes(robot: Robot) -> Sizes:
    """What a connected robot's cameras deliver, without moving it: by its driver's word, else by what it sees.

    Empty where neither tells before the first episode.
    """
    if isinstance(robot, KnowsCameras):
        return robot.camera_sizes()
    try:
        return sizes_of(robot.observe().images)
    # A driver of somebody else need not be able to see before its first episode; each episode looks again.
    except Exception:
        return {}


def require_judged_size(
    sizes: Sizes, judged: int | None, cameras: Iterable[str], *, allow_upscale: bool
) -> dict[str, tuple[int, int]]:
    """Stops where a camera shows less than the release was judged on; a larger picture is scaled down by the policy.

    Args:
        sizes: Of the robot's pictures.
        judged: Pixels along each side of the pictures of the release's evidence; None where it does not say.
        cameras: Roles that count.
        allow_upscale: Whether a camera may show less.

    Returns:
        The cameras that show less, and what they show: the policy blows these pictures up.

    Raises:
        Refused: A camera shows less, and `allow_upscale` is false.
    """
    less = {r: sizes[r] for r in cameras if judged is not None and r in sizes and max(sizes[r]) < judged}
    if less and not allow_upscale:
        shown = ", ".join(f"camera {role!r} gives {width} x {height}" for role, (height, width) in less.items())
        raise Refused(
            f"{shown} pixels, the release was judged on {judged}: let the camera give at least {judged} along its "
            "longer side, or accept that its pictures are blown up (the reports say so): posa robot run --allow-upscale"
        )
    return less
