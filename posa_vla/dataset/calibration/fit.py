"""A fixed camera from where the gripper was, and where in the picture something changed: robust least squares."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from posa_vla.geometry import compose, matrix_to_quaternion, project, projection_spread, quaternion_to_matrix

Floats = NDArray[np.float64]

# Shares of the image's longer side: what an ordinary lens has as focal length, and the scatter of its logarithm.
FOCAL, FOCAL_SPREAD = 0.85, 0.3
# Metres, one standard deviation for each axis: how far from the end-effector the middle of the change may be. The
# fingers move, not the point between their tips. The other one holds where the embodiment says which part moves.
_OFFSET_SPREAD, _KNOWN_SPREAD = 0.015, 0.008
# Numbers that a fit seeks, and of which little is known beforehand.
_SOUGHT = 8
# Share of the longer side: within it a picture's change counts as explained while the best start is sought.
_COARSE = 0.04
# Metres in front of the camera: what is nearer, or behind it, counts as here.
NEAREST = 1e-3
# Pixels: nothing is measured better than this.
FINEST = 0.5
# Radians and metres: what is known of a camera before anything is seen. It keeps finite what the changes leave open.
_ANY_TURN, _ANY_PLACE = 3.0, 3.0
# Share of the longer side: what moves looks otherwise from elsewhere, so that no event says more exactly where it was.
_FINEST = 0.003
# Standard deviations within which a change belongs to the gripper.
INLIER = 3.5
# Starts that are refined, and how much worse (in squared standard deviations) a different solution may be and still
# count as equally good.
_REFINED, EQUALLY_GOOD = 6, 16.0
# Share of the longer side by which the labels of two solutions differ in the median, for them to be two.
DIFFERENT = 0.02


@dataclass(frozen=True)
class CameraFit:
    """A camera and how sure it is.

    Attributes:
        parameters: float64 (10,): rotation vector (camera to base) and position (m) of the camera in the base frame,
            logarithm of the focal length (pixels), offset (m, end-effector's frame) of the change's middle.
        covariance: float64 (10, 10), of the parameters.
        width: Of the image, pixels.
        height: Likewise.
        inliers: bool (N,): which of the changes are the gripper's.
        sigma: Standard deviation of the inliers' residuals in each direction, pixels.
        cost: Sum over all changes of squared residuals in standard deviations, none above `INLIER` squared.
        below: Whether it is lower than all changes. A table from below looks as it does from above in a mirror.
        other: An equally good camera whose labels are others, or None.
    """

    parameters: Floats
    covariance: Floats
    width: int
    height: int
    inliers: NDArray[np.bool_]
    sigma: float
    cost: float
    below: bool
    other: CameraFit | None = None

    @property
    def intrinsics(self) -> Floats:
        """float64 (4,): fx, fy, cx, cy in pixels; the principal point is the middle."""
        focal = float(np.exp(self.parameters[6]))
        return np.array([focal, focal, self.width / 2, self.height / 2])

    @property
    def pose(self) -> Floats:
        """float64 (7,): the camera in the base frame, position (m), quaternion `wxyz`, OpenCV axes."""
        return np.concatenate([self.parameters[3:6], matrix_to_quaternion(_rotation(self.parameters))])

    def pixels(self, points: Floats) -> Floats:
        """Where points (T, 3) (m, base frame) are in the image, float64 (T, 2); NaN behind the camera."""
        return project(points, self.intrinsics, self.pose, self.width, self.height).pixels

    def misfits(self, poses: Floats, places: Floats, sigma: float) -> Floats:
        """How badly each of some changes is explained, float64 (N,): squared standard deviations, up to the limit.

        Args:
            poses: See `fit_camera`.
            places: Likewise, its `pixels`.
            sigma: Standard deviation, pixels.
        """
        seen = projected(self.parameters, change_points(poses, self.parameters[7:]), self.width, self.height)
        squared = np.nanmin(((seen[:, None] - places) ** 2).sum(2), axis=1) / sigma**2
        limited: Floats = np.minimum(squared, INLIER**2)
        return limited

    @property
    def own_covariance(self) -> Floats:
        """float64 (7, 7), as `geometry.projection_spread` takes it: turn and shift of the camera in its own frame."""
        change = np.zeros((7, 7))
        change[:3, :3] = _turned_by(self.parameters[:3])
        change[3:6, 3:6] = _rotation(self.parameters).T
        change[6, 6] = 1
        return change @ self.covariance[:7, :7] @ change.T

    def uncertainty(self, points: Floats) -> Floats:
        """One standard deviation of where points (T, 3) are, in the direction where it is largest: pixels (T,).

        What cannot be seen is infinitely uncertain.
        """
        return projection_spread(points, self.intrinsics, self.pose, self.own_covariance)


def _rotation(parameters: Floats) -> Floats:
    matrix: Floats = Rotation.from_rotvec(parameters[:3]).as_matrix()
    return matrix


def _turned_by(vector: Floats) -> Floats:
    """(3, 3): from a change of a rotation vector to the turn, in the turned frame (right Jacobian of SO(3))."""
    angle = float(np.linalg.norm(vector))
    x, y, z = vector
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    if angle < 1e-6:
        return np.eye(3) - cross / 2
    jacobian: Floats = (
        np.eye(3) - (1 - np.cos(angle)) / angle**2 * cross + (angle - np.sin(angle)) / angle**3 * cross @ cross
    )
    return jacobian


def projected(parameters: Floats, points: Floats, width: int, height: int) -> Floats:
    """Pixels (T, 2) of points (T, 3); those behind the camera are far away, so that a search turns round."""
    local = (points - parameters[3:6]) @ _rotation(parameters)
    depth = np.maximum(local[:, 2:], NEAREST)
    pixels: Floats = np.exp(parameters[6]) * local[:, :2] / depth + np.array([width / 2, height / 2])
    return pixels


def slopes_of(function: Callable[[Floats], Floats], at: Floats) -> Floats:
    """Central differences of a function of parameters (P,), appended as last axis."""
    step = 1e-6
    columns = [(function(at + step * unit) - function(at - step * unit)) / (2 * step) for unit in np.eye(len(at))]
    return np.stack(columns, axis=-1)


def covariance_of(slopes: Floats) -> Floats:
    """(P, P): how sure parameters are that begin with a camera's turn and place.

    Args:
        slopes: (N, P), derivatives of residuals that are in standard deviations.
    """
    weak = np.zeros(slopes.shape[1])
    weak[:3], weak[3:6] = _ANY_TURN**-2, _ANY_PLACE**-2
    return np.asarray(np.linalg.inv(slopes.T @ slopes + np.diag(weak)), np.float64)


class Problem:
    """Changes to be explained."""

    def __init__(
        self, poses: Floats, pixels: Floats, width: int, height: int, focal: float | None, offset: Floats | None
    ) -> None:
        self.poses, self.seen, self.width, self.height = poses, pixels, width, height
        self._strongest = pixels[:, 0]
        self.side = max(width, height)
        self.offset = np.zeros(3) if offset is None else offset
        self._offset_spread = _OFFSET_SPREAD if offset is None else _KNOWN_SPREAD
        self.turn = quaternion_to_matrix(poses[:, 3:])
        known = focal is not None
        self.log_focal = float(np.log(focal if focal is not None else FOCAL * self.side))
        self._focal_spread = 1e-3 if known else FOCAL_SPREAD

    def misses(self, parameters: Floats) -> Floats:
        """Pixels (N, 2) by which the changes are missed: of each event the place that is nearest."""
        points = self.poses[:, :3] + np.einsum("nij,j->ni", self.turn, parameters[7:])
        away = projected(parameters, points, self.width, self.height)[:, None] - self.seen
        nearest = np.nan_to_num((away**2).sum(2), nan=np.inf).argmin(axis=1)
        missed: Floats = away[np.arange(len(away)), nearest]
        return missed

    def slopes(self, parameters: Floats, sigma: float, chosen: NDArray[np.bool_]) -> Floats:
        """Derivatives (2 C + 4, 10) of the residuals, each event's nearest place as it is."""
        rotation = _rotation(parameters)
        turned = self.turn[chosen]
        local = (self.poses[chosen, :3] + turned @ parameters[7:] - parameters[3:6]) @ rotation
        depth, focal = np.maximum(local[:, 2], NEAREST), np.exp(parameters[6])
        # From a shift of the point in the camera's frame to pixels, (C, 2, 3).
        seen = np.zeros((len(local), 2, 3))
        seen[:, 0, 0] = seen[:, 1, 1] = focal / depth
        seen[:, :, 2] = -focal * local[:, :2] / depth[:, None] ** 2 * (local[:, 2:] > NEAREST)
        slopes = np.empty((len(local), 2, len(parameters)))
        x, y, z = local.T
        none = np.zeros(len(local))
        cross = np.stack([none, -z, y, z, none, -x, -y, x, none], axis=1).reshape(-1, 3, 3)
        slopes[:, :, :3] = seen @ cross @ _turned_by(parameters[:3])
        slopes[:, :, 3:6] = -seen @ rotation.T
        slopes[:, :, 6] = focal * local[:, :2] / depth[:, None]
        slopes[:, :, 7:] = seen @ (rotation.T @ turned)
        known = np.zeros((4, len(parameters)))
        known[0, 6] = 1 / self._focal_spread
        known[1:, 7:] = np.eye(3) / self._offset_spread
        return np.concatenate([slopes.reshape(-1, len(parameters)) / sigma, known])

    def residuals(self, parameters: Floats, sigma: float, chosen: NDArray[np.bool_]) -> Floats:
        """What is squared: misses of the chosen in standard deviations, and what is known beforehand."""
        known = [
            (parameters[6] - self.log_focal) / self._focal_spread,
            *((parameters[7:] - self.offset) / self._offset_spread),
        ]
        return np.concatenate([(self.misses(parameters)[chosen] / sigma).ravel(), known])

    def starts(self) -> Iterator[Floats]:
        """Cameras all round the changes that see them in the middle, upright, lying and upside down."""
        middle = np.median(self.poses[:, :3], axis=0)
        spread = float(np.linalg.norm(self.poses[:, :3] - middle, axis=1).mean())
        seen = float(np.linalg.norm(self._strongest - np.median(self._strongest, axis=0), axis=1).mean())
        distance = float(np.clip(np.exp(self.log_focal) * spread / max(seen, 1.0), 0.2, 5.0))
        for azimuth, elevation, roll in itertools.product(np.arange(0, 360, 45), (20, 60), (0, 90, 180, 270)):
            around = Rotation.from_euler("ZY", [azimuth, -elevation], degrees=True)
            outward = around.apply([1.0, 0.0, 0.0])
            forward = -outward
            right = np.cross(forward, [0.0, 0.0, 1.0])
            right /= np.linalg.norm(right)
            upright = Rotation.from_matrix(np.stack([right, np.cross(forward, right), forward], axis=1))
            turned = upright * Rotation.from_euler("z", roll, degrees=True)
            yield np.concatenate([turned.as_rotvec(), middle + distance * outward, [self.log_focal], self.offset])

    def solve(
        self, start: Floats, sigma: float, chosen: NDArray[np.bool_], loss: Literal["linear", "cauchy"], tries: int
    ) -> Floats:
        """The nearest best parameters."""
        arguments = (sigma, chosen)
        done = least_squares(
            self.residuals, start, self.slopes, loss=loss, args=arguments, max_nfev=tries, x_scale="jac"
        )
        return np.asarray(done.x)

    def cost(self, parameters: Floats, sigma: float) -> float:
        """How badly all changes are explained; what is not the gripper's counts as the limit."""
        squared = (self.misses(parameters) ** 2).sum(1) / sigma**2
        return float(np.minimum(squared, INLIER**2).sum())

    def refined(self, start: Floats) -> CameraFit:
        """The solution near a start, with its own scatter and inliers."""
        everything = np.ones(len(self.seen), np.bool_)
        parameters = self.solve(start, _COARSE * self.side, everything, "cauchy", 60)
        sigma, inliers = _COARSE * self.side, everything
        for _ in range(4):
            lengths = np.linalg.norm(self.misses(parameters), axis=1)
            # Of two directions with one scatter, the median length is 1.1774 standard deviations.
            sigma = max(float(np.median(lengths[inliers])) / 1.1774, _FINEST * self.side)
            inliers = lengths < INLIER * sigma
            parameters = self.solve(parameters, sigma, inliers, "linear", 40)
        slopes = self.slopes(parameters, sigma, inliers)
        # The fewer the events, the nearer to them is a camera that was fitted to them.
        free = max(2 * int(inliers.sum()) - _SOUGHT, 1)
        fewer = 2 * int(inliers.sum()) / free
        return CameraFit(
            parameters=parameters,
            covariance=fewer * covariance_of(slopes),
            width=self.width,
            height=self.height,
            inliers=inliers,
            sigma=sigma,
            cost=self.cost(parameters, sigma),
            below=bool(parameters[5] < self.poses[:, 2].min()),
        )


def fit_camera(
    poses: Floats,
    pixels: Floats,
    reach: Floats,
    *,
    width: int,
    height: int,
    focal: float | None = None,
    offset: Floats | None = None,
) -> CameraFit:
    """The fixed camera in which the gripper's changes are seen where they are.

    Square pixels, the principal point in the middle, no distortion. Some of the changes may be other things'.

    Args:
        poses: float64 (N, 7): the end-effector at each change, position (m) and quaternion `wxyz`, base frame.
        pixels: float64 (N, K, 2): where the picture changed, continuous pixels; the strongest change first, NaN where
            there are fewer than K.
        reach: float64 (M, 3): where the end-effector goes (m, base frame); two cameras are two if they differ there.
        width: Of the image, pixels.
        height: Likewise.
        focal: Focal length in pixels, where it is known.
        offset: float64 (3,): about where the middle of what moves is, m, end-effector's frame; None where nobody knows.
    """
    problem = Problem(poses, pixels, width, height, focal, offset)
    coarse = _COARSE * problem.side
    everything = np.ones(len(pixels), np.bool_)
    tried = [problem.solve(start, coarse, everything, "cauchy", 12) for start in problem.starts()]
    tried.sort(key=lambda parameters: problem.cost(parameters, coarse / INLIER))
    best: CameraFit | None = None
    others: list[CameraFit] = []
    for parameters in tried[:_REFINED]:
        found = problem.refined(parameters)
        if best is None or _worse(best, found, problem) > 0:
            best, found = found, best if best is not None else found
        others.append(found)
    assert best is not None  # there are starts
    for other in others:
        if _worse(other, best, problem) < EQUALLY_GOOD and apart(best, other, reach) > DIFFERENT * problem.side:
            return CameraFit(**{**vars(best), "other": other})
    return best


def _worse(one: CameraFit, other: CameraFit, problem: Problem) -> float:
    """By how much `one` explains all changes worse than `other`, in squared standard deviations of `other`."""
    return problem.cost(one.parameters, other.sigma) - problem.cost(other.parameters, other.sigma)


def apart(one: CameraFit, other: CameraFit, reach: Floats) -> float:
    """Pixels between where two cameras see the same points, in the median."""
    return float(np.nanmedian(np.linalg.norm(one.pixels(reach) - other.pixels(reach), axis=1)))


def change_points(poses: Floats, offset: Floats) -> Floats:
    """Where the middle of a change is, float64 (N, 3) (m, base frame), of end-effector poses (N, 7)."""
    points: Floats = compose(poses, np.concatenate([offset, [1.0, 0.0, 0.0, 0.0]]))[:, :3]
    return points
