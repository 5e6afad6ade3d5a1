"""The calibration file: intrinsics of each camera, and where it is, in the base frame or on the hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from posa_vla.episodes.episode import UNSEEN, CameraTrack
from posa_vla.episodes.media.images import Images
from posa_vla.errors import BadInput, did_you_mean
from posa_vla.geometry import compose, packed_covariance
from posa_vla.schema import Closed, parse
from posa_vla.yaml_file import read_yaml

# Images may be a scaled version of what was calibrated; further apart than this they were cut as well.
_ASPECT = 0.01


class Pose(Closed):
    """A rigid transform: `position` (m), `quaternion` `wxyz`."""

    position: tuple[float, float, float]
    quaternion: tuple[float, float, float, float]

    @model_validator(mode="after")
    def _is_rotation(self) -> Pose:
        norm = float(np.linalg.norm(self.quaternion))
        if not 0.99 < norm < 1.01:
            raise ValueError(f"quaternion has length {norm:.3f}, expected 1 (order w, x, y, z)")
        return self

    def array(self) -> NDArray[np.float64]:
        """float64 (7,): position, quaternion of length 1."""
        quaternion = np.array(self.quaternion) / np.linalg.norm(self.quaternion)
        return np.concatenate([np.array(self.position), quaternion])


class Intrinsics(Closed):
    """Pinhole intrinsics in pixels of an image of `width` x `height`; lens distortion must have been removed."""

    fx: float = Field(gt=0)
    fy: float = Field(gt=0)
    cx: float
    cy: float
    width: int = Field(gt=0)
    height: int = Field(gt=0)


class EndEffectorPixel(Closed):
    """Where a camera on the hand sees the end-effector, in pixels of an image of `width` x `height`."""

    u: float = Field(ge=0)
    v: float = Field(ge=0)
    width: int = Field(gt=0)
    height: int = Field(gt=0)

    @model_validator(mode="after")
    def _inside(self) -> EndEffectorPixel:
        if self.u >= self.width or self.v >= self.height:
            raise ValueError(f"({self.u:g}, {self.v:g}) is outside of an image of {self.width} x {self.height}")
        return self


def _absent(value: object) -> bool:
    return value is None or value == []


class Found(Closed):
    """How a calibration came about that nobody measured.

    Attributes:
        how: From the gripper's events in the recordings, or from clicks on its tip.
        events: How many events or clicks there were.
        used: How many of them were the gripper's.
        sigma: Standard deviation of what these miss, pixels.
        uncertainty: 90th percentile of a label's standard deviation, share of the picture's longer side.
        covariance: 7 x 7: turn (rad) and shift (m) of the camera in its own frame, logarithm of the focal length.
    """

    how: Literal["automatic", "clicked"]
    events: int
    used: int
    sigma: float
    uncertainty: float
    covariance: list[list[float]]

    @model_validator(mode="after")
    def _is_square(self) -> Found:
        if len(self.covariance) != 7 or any(len(row) != 7 for row in self.covariance):
            raise ValueError("covariance is 7 rows of 7 numbers")
        covariance = np.array(self.covariance)
        if not np.isfinite(covariance).all() or not np.allclose(covariance, covariance.T, rtol=1e-4, atol=1e-12):
            raise ValueError("covariance has to be finite and symmetric")
        if (np.diag(covariance) < 0).any():
            raise ValueError("covariance has a negative variance")
        return self


class Later(Closed):
    """Where a fixed camera stands from an episode on: it was moved.

    Attributes:
        from_episode: Number of the first such episode of the dataset.
        intrinsics: As those of the camera.
        base_from_camera: Likewise; None where nobody knows it: nothing is labelled from there on.
        found: How it was found.
    """

    from_episode: int = Field(ge=1)
    intrinsics: Intrinsics
    base_from_camera: Pose | None = Field(default=None, exclude_if=_absent)
    found: Found | None = None


class CameraCalibration(Closed):
    """One camera, OpenCV axes (x right, y down, z forward).

    `base_from_camera` is a fixed camera's pose in the base frame (extrinsics); `end_effector_from_camera` the pose of
    one that is mounted on the hand (hand-eye). Where that is not known, `end_effector_pixel`, without intrinsics, says
    where such a camera sees the end-effector: its label is known then, the task's is not. Of several hands,
    `end_effector` names the one that it is on. `found` says how they were found, where nobody measured them; `later`,
    in order, where a fixed camera stands after it was moved.
    """

    intrinsics: Intrinsics | None = None
    base_from_camera: Pose | None = None
    end_effector_from_camera: Pose | None = None
    end_effector_pixel: EndEffectorPixel | None = Field(default=None, exclude_if=_absent)
    end_effector: str | None = Field(default=None, exclude_if=_absent)
    found: Found | None = Field(default=None, exclude_if=_absent)
    later: list[Later] = Field(default_factory=list, exclude_if=_absent)

    @model_validator(mode="after")
    def _one_place(self) -> CameraCalibration:
        if self.base_from_camera is not None and self.end_effector_from_camera is not None:
            raise ValueError("give base_from_camera (a fixed camera) or end_effector_from_camera (one on the hand)")
        if self.end_effector_pixel is None and self.intrinsics is None:
            raise ValueError("intrinsics are missing: give fx, fy, cx, cy, width, height")
        if self.end_effector_pixel is not None and (
            self.intrinsics or self.base_from_camera or self.end_effector_from_camera
        ):
            raise ValueError("give end_effector_pixel, or intrinsics and where the camera is")
        if self.end_effector is not None and self.end_effector_from_camera is None and self.end_effector_pixel is None:
            raise ValueError(
                "end_effector names the hand that the camera is on: give end_effector_from_camera or end_effector_pixel"
            )
        starts = [later.from_episode for later in self.later]
        if starts and (self.end_effector_pixel or self.end_effector_from_camera):
            raise ValueError("later says where a fixed camera stands, and this one is on the hand")
        if starts != sorted(set(starts)):
            raise ValueError(f"later must begin at rising episodes, got {starts}")
        return self

    def at(self, episode: int) -> CameraCalibration:
        """The camera as it stands in an episode, by the episode's number in the dataset."""
        standing = self
        for later in self.later:
            if later.from_episode <= episode:
                standing = CameraCalibration(
                    intrinsics=later.intrinsics, base_from_camera=later.base_from_camera, found=later.found
                )
        return standing


class Calibration(Closed):
    """A calibration file: cameras by role.

    Attributes:
        cameras: Role -> camera.
        episodes: Of the dataset that moved cameras were found on, whose episodes `later` numbers: number -> digest of
            its state and action (`posa_vla.episodes.content.signals_digest`). Later episodes may follow.
    """

    schema_version: Literal[1] = 1
    cameras: dict[str, CameraCalibration]
    episodes: dict[int, str] = Field(default_factory=dict, exclude_if=lambda value: value == {})

    @property
    def moves(self) -> bool:
        """Whether a camera stands elsewhere from some episode on."""
        return any(camera.later for camera in self.cameras.values())


def load_calibration(path: Path, roles: list[str], end_effectors: Sequence[str] = ()) -> Calibration:
    """Reads a calibration file for cameras of some roles.

    Args:
        path: The file.
        roles: The recording's cameras.
        end_effectors: Names of the robot's end effectors, where it has several.

    Raises:
        BadInput: The file does not exist, does not fit the schema, names a camera or an end effector that the recording
            lacks, or does not say which of several hands a camera is on.
    """
    calibration = parse(Calibration, read_yaml(path), str(path))
    for role in calibration.cameras:
        if role not in roles:
            raise BadInput(f"{path}: camera {role!r} is none of the recording's; {did_you_mean(role, roles)}")
    for role, camera in calibration.cameras.items():
        hand = camera.end_effector
        on_hand = camera.end_effector_from_camera is not None or camera.end_effector_pixel is not None
        if on_hand and (hand is None) == bool(end_effectors):
            got = f"end_effector {hand!r} of a robot that has one" if hand else "no end_effector"
            expected = f"which hand it is on: {', '.join(end_effectors)}" if end_effectors else "none: leave it out"
            raise BadInput(f"{path}: camera {role!r} has {got}, expected {expected}")
        if hand is not None and hand not in end_effectors:
            raise BadInput(f"{path}: camera {role!r}: no end effector {hand!r}; {did_you_mean(hand, end_effectors)}")
    return calibration


def calibrate(
    images: Images,
    camera: CameraCalibration,
    end_effector: NDArray[np.float64] | None,
    end_effectors: Sequence[str] = (),
) -> CameraTrack:
    """Images with what the calibration says of their camera.

    Args:
        images: uint8 (T, H, W, 3).
        camera: Its calibration.
        end_effector: float64 (T, 7) in the base frame, or (T, E, 7) of several; or None: without it a camera on the
            hand has no pose.
        end_effectors: Names of the several, in order.

    Raises:
        BadInput: The images have another shape than what was calibrated.
    """
    frames, height, width, _ = images.shape
    given = camera.intrinsics or camera.end_effector_pixel
    assert given is not None  # the schema asks for one of them
    across, down = width / given.width, height / given.height
    if abs(across / down - 1) > _ASPECT:
        raise BadInput(
            f"the calibration is for images of {given.width} x {given.height}, these are {width} x {height}: "
            "expected the same shape, scaled or not"
        )
    if isinstance(given, EndEffectorPixel):
        pixel = np.array([given.u * across, given.v * down])
        if camera.end_effector is None:
            return CameraTrack(images, end_effector_pixel=np.tile(pixel, (frames, 1)))
        seen = np.full((frames, len(end_effectors), 2), UNSEEN)
        seen[:, list(end_effectors).index(camera.end_effector)] = pixel
        return CameraTrack(images, end_effector_pixel=seen)
    intrinsics = np.array([given.fx * across, given.fy * down, given.cx * across, given.cy * down])
    pose = None
    if camera.base_from_camera is not None:
        pose = np.tile(camera.base_from_camera.array(), (frames, 1))
    elif camera.end_effector_from_camera is not None and end_effector is not None:
        if camera.end_effector is not None:
            end_effector = end_effector[:, list(end_effectors).index(camera.end_effector)]
        pose = compose(end_effector, camera.end_effector_from_camera.array())
    covariance = None
    if camera.found is not None and pose is not None:
        covariance = np.tile(packed_covariance(np.array(camera.found.covariance)), (frames, 1))
    return CameraTrack(images, np.tile(intrinsics, (frames, 1)), pose, covariance)
