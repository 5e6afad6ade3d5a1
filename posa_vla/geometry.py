"""Frames of reference, camera calibration, projection.

Frames: `base` is the robot's base (metres, z up). A camera frame is OpenCV's (x right, y down, z forward).
Quaternions are unit, `wxyz`. Image coordinates are continuous: the pixel in column c and row r covers
[c, c+1) x [r, r+1), so its centre is (c + 0.5, r + 0.5).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]


def quaternion_to_matrix(quaternion: Floats) -> NDArray[np.float64]:
    """Rotation matrices (..., 3, 3) of quaternions (..., 4) in `wxyz` order; they need not be normalised."""
    q = np.asarray(quaternion, dtype=np.float64)
    w, x, y, z = np.moveaxis(q / np.linalg.norm(q, axis=-1, keepdims=True), -1, 0)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def matrix_to_quaternion(matrix: Floats) -> NDArray[np.float64]:
    """Quaternion (4,) `wxyz`, w >= 0, of one rotation matrix (3, 3) (Shepperd's method)."""
    m = np.asarray(matrix, dtype=np.float64)
    diagonal = np.array([np.trace(m), m[0, 0], m[1, 1], m[2, 2]])
    k = int(np.argmax(diagonal))
    if k == 0:
        q = np.array([1 + diagonal[0], m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1]])
    else:
        i = k - 1
        j, l = (i + 1) % 3, (i + 2) % 3  # noqa: E741  # the usual index names
        q = np.zeros(4)
        q[0] = m[l, j] - m[j, l]
        q[1 + i] = 1 + 2 * m[i, i] - diagonal[0]
        q[1 + j] = m[j, i] + m[i, j]
        q[1 + l] = m[l, i] + m[i, l]
    q /= np.linalg.norm(q)
    return q if q[0] >= 0 else -q


def _multiply(a: Floats, b: Floats) -> NDArray[np.float64]:
    """Products of quaternions (..., 4) `wxyz`."""
    aw, ax, ay, az = np.moveaxis(np.asarray(a, np.float64), -1, 0)
    bw, bx, by, bz = np.moveaxis(np.asarray(b, np.float64), -1, 0)
    return np.stack(
        [
            aw * bw - ax * bx - ay * by - az * bz,
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
        ],
        axis=-1,
    )


def compose(first: Floats, second: Floats) -> NDArray[np.float64]:
    """Poses (..., 7) of what has pose `second` in the frame whose pose is `first`: position (m), quaternion `wxyz`."""
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    turned = np.einsum("...ij,...j->...i", quaternion_to_matrix(first[..., 3:]), second[..., :3])
    return np.concatenate([first[..., :3] + turned, _multiply(first[..., 3:], second[..., 3:])], axis=-1)


def invert(pose: Floats) -> NDArray[np.float64]:
    """The inverse of poses (..., 7) with quaternions of length 1."""
    pose = np.asarray(pose, np.float64)
    conjugate = pose[..., 3:] * np.array([1.0, -1.0, -1.0, -1.0])
    back = np.einsum("...ij,...j->...i", quaternion_to_matrix(conjugate), -pose[..., :3])
    return np.concatenate([back, conjugate], axis=-1)


@dataclass(frozen=True)
class Projection:
    """Points in an image.

    Attributes:
        pixels: (..., 2) float64, (u right, v down), continuous image coordinates; NaN behind the camera.
        visible: (...) bool, in front of the camera and inside the image.
    """

    pixels: NDArray[np.float64]
    visible: NDArray[np.bool_]


def project(points: Floats, intrinsics: Floats, camera_pose: Floats, width: int, height: int) -> Projection:
    """Projects points in the base frame through pinhole cameras.

    Args:
        points: (..., 3) metres, base frame.
        intrinsics: (..., 4) fx, fy, cx, cy in pixels of an image of `width` x `height`.
        camera_pose: (..., 7) the camera in the base frame: position (m), quaternion `wxyz`, OpenCV axes.
        width: Image width in pixels.
        height: Image height in pixels.
    """
    points = np.asarray(points, dtype=np.float64)
    intrinsics = np.asarray(intrinsics, dtype=np.float64)
    pose = np.asarray(camera_pose, dtype=np.float64)
    rotation = quaternion_to_matrix(pose[..., 3:])
    local = np.einsum("...ji,...j->...i", rotation, points - pose[..., :3])
    depth = local[..., 2]
    in_front = depth > 1e-6
    safe = np.where(in_front, depth, np.nan)
    u = intrinsics[..., 0] * local[..., 0] / safe + intrinsics[..., 2]
    v = intrinsics[..., 1] * local[..., 1] / safe + intrinsics[..., 3]
    with np.errstate(invalid="ignore"):
        inside = (u >= 0) & (u < width) & (v >= 0) & (v < height)
    return Projection(np.stack([u, v], axis=-1), in_front & inside)


# Numbers of a camera's covariance that are kept: the lower triangle of 7 x 7, row by row.
COVARIANCE_SIZE = 28
_ROWS, _COLUMNS = np.tril_indices(7)


def packed_covariance(covariance: Floats) -> NDArray[np.float64]:
    """The lower triangles (..., 28) of symmetric matrices (..., 7, 7), row by row."""
    return np.asarray(covariance, np.float64)[..., _ROWS, _COLUMNS]


def unpacked_covariance(packed: Floats) -> NDArray[np.float64]:
    """The symmetric matrices (..., 7, 7) of their lower triangles (..., 28)."""
    packed = np.asarray(packed, np.float64)
    full = np.zeros((*packed.shape[:-1], 7, 7))
    full[..., _ROWS, _COLUMNS] = packed
    full[..., _COLUMNS, _ROWS] = packed
    return full


def projection_spread(
    points: Floats, intrinsics: Floats, camera_pose: Floats, covariance: Floats
) -> NDArray[np.float64]:
    """How uncertain projected points are, because their camera is: (...) pixels, to first order.

    It is one standard deviation in the direction in which it is largest; infinite behind the camera.

    Args:
        points: (..., 3) metres, base frame.
        intrinsics: (..., 4) fx, fy, cx, cy.
        camera_pose: (..., 7) the camera in the base frame, OpenCV axes.
        covariance: (..., 7, 7) of a small turn (rad) and shift (m) of the camera, both in its own frame, and of the
            logarithm of its focal lengths.
    """
    intrinsics, pose = np.asarray(intrinsics, np.float64), np.asarray(camera_pose, np.float64)
    rotation = quaternion_to_matrix(pose[..., 3:])
    local = np.einsum("...ji,...j->...i", rotation, np.asarray(points, np.float64) - pose[..., :3])
    x, y, z = np.moveaxis(local, -1, 0)
    in_front = z > 1e-6
    z = np.where(in_front, z, 1.0)
    zero, one = np.zeros_like(z), np.ones_like(z)
    # Of the point in the camera's frame: by a turn of the camera (the cross product with it), and by a shift.
    turn = np.stack([np.stack(r, -1) for r in ([zero, -z, y], [z, zero, -x], [-y, x, zero])], -2)
    by_camera = np.concatenate([turn, np.broadcast_to(-np.eye(3), turn.shape)], axis=-1)
    in_image = np.stack([np.stack([one / z, zero, -x / z**2], -1), np.stack([zero, one / z, -y / z**2], -1)], -2)
    slopes = np.concatenate([in_image @ by_camera, np.stack([x / z, y / z], -1)[..., None]], axis=-1)
    slopes = slopes * intrinsics[..., :2, None]
    spread = slopes @ np.asarray(covariance, np.float64) @ np.swapaxes(slopes, -1, -2)
    largest = np.sqrt(np.maximum(np.linalg.eigvalsh(spread)[..., -1], 0))
    return np.where(in_front, largest, np.inf)
