"""The Episode contract."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from posa_vla.episodes.media.images import Images
from posa_vla.errors import BadInput
from posa_vla.geometry import COVARIANCE_SIZE

Source = Literal["sim", "teleop", "deployment"]

# Pixel of an end effector that nobody knows: beside every picture, and finite as all that is stored.
UNSEEN = (-1.0, -1.0)


class NotFinite(BadInput):
    """An episode holds a value that is no number."""


@dataclass(frozen=True)
class CameraTrack:
    """One camera over an episode of T frames.

    Attributes:
        images: uint8 (T, H, W, 3), RGB: an array, or images that are decoded one by one when they are looked at.
        intrinsics: float64 (T, 4) fx, fy, cx, cy in pixels of these images, or None where not calibrated.
        pose: float64 (T, 7) camera in the base frame: position (m), quaternion `wxyz`, OpenCV axes (x right, y down,
            z forward), or None where not calibrated.
        covariance: float64 (T, 28) of a calibration that was found and not measured, or None: how sure it is (see
            `geometry.projection_spread`), packed (`geometry.packed_covariance`).
        end_effector_pixel: float64 (T, 2) continuous pixels, where the end-effector is seen by a camera on the hand
            whose pose is not known; None elsewhere. Of E end effectors (T, E, 2), `UNSEEN` of each that the camera is
            not on.
    """

    images: Images
    intrinsics: NDArray[np.float64] | None = None
    pose: NDArray[np.float64] | None = None
    covariance: NDArray[np.float64] | None = None
    end_effector_pixel: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class Episode:
    """One demonstration or rollout of T frames; `action[t]` is what was asked for at the observation `t`.

    Attributes:
        embodiment: Id of the embodiment.
        instruction: What the robot was asked to do, in words.
        source: Where the episode comes from.
        success: Whether the task was done.
        fps: Frames per second of all arrays.
        cameras: Role -> camera.
        state: float32 (T, S), the embodiment's state channels.
        action: float32 (T, A), the embodiment's action channels, physical units.
        end_effector: float64 (T, 7) end-effector pose in the base frame (position m, quaternion `wxyz`), or None. Of
            a robot that declares E `end_effectors` (T, E, 7), in their order; see `poses`.
        gripper: float32 (T,) measured opening, 0 closed to 1 open, or None. Likewise (T, E).
        scene: Whatever fixes the scene again (task, seed, object list); JSON values only.
        timestamps: float64 (T,) when each frame was recorded (s since the first), or None where they are exactly
            `fps` apart.
        extra: Whatever else was recorded, by its LeRobot feature name: float32, float64 or int64 (T, channels).
        prompts: T texts, what the robot was asked at each frame, or None where that is `instruction` all along.
    """

    embodiment: str
    instruction: str
    source: Source
    success: bool
    fps: float
    cameras: dict[str, CameraTrack]
    state: NDArray[np.float32]
    action: NDArray[np.float32]
    end_effector: NDArray[np.float64] | None = None
    gripper: NDArray[np.float32] | None = None
    scene: dict[str, Any] = field(default_factory=dict)
    timestamps: NDArray[np.float64] | None = None
    extra: dict[str, NDArray[Any]] = field(default_factory=dict)
    prompts: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.state)

    @property
    def poses(self) -> NDArray[np.float64] | None:
        """float64 (T, E, 7), `end_effector` with an axis of end effectors whether there are several or one."""
        return None if self.end_effector is None else self.end_effector.reshape(len(self), -1, 7)

    def prompt(self, frame: int) -> str:
        """What the robot was asked at a frame."""
        return self.instruction if self.prompts is None else self.prompts[frame]

    def asked(self) -> list[tuple[int, str]]:
        """(frame, text) of each thing that the robot was asked, from the frame on at which it was asked first."""
        prompts = self.prompts or (self.instruction,)
        return [(n, text) for n, text in enumerate(prompts) if n == 0 or text != prompts[n - 1]]

    def check(self) -> None:
        """Verifies that shapes and dtypes fit the contract and that nothing is NaN.

        Raises:
            NotFinite: A value is no number; the message names field and frame.
            BadInput: A field does not fit; the message names the field, its shape or dtype, and what was expected.
        """
        frames = len(self.state)
        if frames == 0:
            raise BadInput("episode has no frames, expected at least one")
        if self.prompts is not None and len(self.prompts) != frames:
            raise BadInput(f"prompts are {len(self.prompts)} texts, expected one for each of {frames} frames")
        # Two or more; one has no axis of its own.
        ends = self.end_effector.shape[1:-1] if self.end_effector is not None and self.end_effector.ndim == 3 else ()
        if self.end_effector is None and self.gripper is not None and self.gripper.ndim == 2:
            ends = self.gripper.shape[1:]
        wanted: list[tuple[str, NDArray[Any] | None, tuple[int, ...] | None, type]] = [
            ("state", self.state, None, np.float32),
            ("action", self.action, None, np.float32),
            ("end_effector", self.end_effector, (frames, *ends, 7), np.float64),
            ("gripper", self.gripper, (frames, *ends), np.float32),
            ("timestamps", self.timestamps, (frames,), np.float64),
        ]
        for role, camera in self.cameras.items():
            wanted.append((f"cameras[{role}].intrinsics", camera.intrinsics, (frames, 4), np.float64))
            wanted.append((f"cameras[{role}].pose", camera.pose, (frames, 7), np.float64))
            wanted.append((f"cameras[{role}].covariance", camera.covariance, (frames, COVARIANCE_SIZE), np.float64))
            pixel = camera.end_effector_pixel
            wanted.append((f"cameras[{role}].end_effector_pixel", pixel, (frames, *ends, 2), np.float64))
            images = camera.images
            if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3 or len(images) != frames:
                raise BadInput(
                    f"cameras[{role}].images is {images.dtype} {images.shape}, expected uint8 ({frames}, H, W, 3)"
                )
        for name, array, shape, dtype in wanted:
            if array is None:
                continue
            if array.dtype != dtype or len(array) != frames or (shape is not None and array.shape != shape):
                raise BadInput(
                    f"{name} is {array.dtype} {array.shape}, expected {np.dtype(dtype)} {shape or (frames, '...')}"
                )
            if not np.isfinite(array).all():
                bad = int(np.argmax(~np.isfinite(array.reshape(frames, -1)).all(axis=1)))
                raise NotFinite(f"{name} is not finite at frame {bad}")
