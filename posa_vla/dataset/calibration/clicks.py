"""A camera from clicks on points whose places are known: PnP with RANSAC, then least squares."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from posa_vla.dataset.calibration.automatic import USABLE
from posa_vla.dataset.calibration.fit import (
    DIFFERENT,
    EQUALLY_GOOD,
    FINEST,
    FOCAL,
    FOCAL_SPREAD,
    INLIER,
    CameraFit,
    apart,
    covariance_of,
    projected,
    slopes_of,
)
from posa_vla.dataset.calibration.three_points import cameras_of_three

Floats = NDArray[np.float64]
Booleans = NDArray[np.bool_]

# Fewest clicks that give a camera: seven numbers are sought, two come with each click, and one of them may be wrong.
FEWEST_CLICKS = 6
# Share of the picture's longer side: how well people click (one standard deviation in each direction), and how many
# clicks' worth of misses it counts for where the clicks themselves say something else.
_CLICK, _CLICKS_WORTH = 0.005, 3
# Share of the longer side within which a click counts for a camera of three others while the best is sought.
_COARSE = 0.03
# Triples of clicks, and focal lengths (in standard deviations of what is usual), that are tried.
_TRIPLES, _FOCALS = 200, np.linspace(-2.5, 2.5, 11)
# Cameras that are refined, and by how much of the longer side two of them differ at the clicks.
_REFINED, _OTHER = 8, 0.01
# Share of the clicks that have to fit one camera.
_AGREE = 0.6
# All clicks are within this share of the longer side while the points are further apart (m): a camera on the hand.
_ONE_PLACE, _FAR = 0.015, 0.08


@dataclass(frozen=True)
class ClickedCamera:
    """A camera from clicks.

    Attributes:
        camera: Its `inliers` are the clicks that it was fitted to; None where it was not sought.
        rejected: Numbers of the other clicks.
        misses: float64 (N,): how far each click is from where the camera sees its point, pixels; infinite behind it.
        uncertainty: 90th percentile of a label's standard deviation, share of the longer side; None without a camera.
        reasons: Why the camera is not to be used, in words with what to do; empty if it is.
    """

    camera: CameraFit | None
    rejected: list[int]
    misses: Floats
    uncertainty: float | None = None
    reasons: list[str] = field(default_factory=list)

    @property
    def error(self) -> float | None:
        """Root of the mean square of the misses of the clicks that were used, pixels; None where there are none."""
        used = np.delete(self.misses, self.rejected)
        return float(np.sqrt(np.mean(used**2))) if self.camera is not None and len(used) else None


def camera_from_clicks(
    points: Floats,
    pixels: Floats,
    reach: Floats | None = None,
    *,
    width: int,
    height: int,
    focal: float | None = None,
    seed: int = 0,
    fixed: bool = True,
) -> ClickedCamera:
    """The camera that sees points where somebody clicked on them, some of the clicks perhaps wrong.

    Square pixels, the principal point in the middle, no distortion.

    Args:
        points: float64 (N, 3), m: in the base frame; of a camera on the hand, in the end-effector's.
        pixels: float64 (N, 2): the clicks, continuous pixels.
        reach: float64 (M, 3): where labels will be, same frame; the points if None.
        width: Of the image, pixels.
        height: Likewise.
        focal: Focal length in pixels, where it is known.
        seed: Of the draw, where there are more triples of clicks than are tried.
        fixed: Whether the camera stands in the base frame; then it is not below the table.
    """
    nothing = ClickedCamera(None, [], np.full(len(points), np.inf))
    if len(points) < FEWEST_CLICKS:
        missing = FEWEST_CLICKS - len(points)
        said = f"{_clicks(len(points))}, {FEWEST_CLICKS} are needed at least: click in {missing} more frames"
        return ClickedCamera(None, [], nothing.misses, reasons=[said])
    if fixed and _in_one_place(points, pixels, max(width, height)):
        said = (
            "all clicks are in one place of the picture while the gripper goes far: click the gripper's tip, not what "
            "stands; if the camera is on the hand, say so (--on-hand ROLE)"
        )
        return ClickedCamera(None, [], nothing.misses, reasons=[said])
    search = _Clicks(points, pixels, width, height, focal)
    best = search.best(seed, points if reach is None else reach)
    if best is None:
        said = "no camera sees these points where they were clicked: was the same point clicked in every frame?"
        return ClickedCamera(None, [], nothing.misses, reasons=[said])
    return _judged(search, best, points if reach is None else reach, fixed=fixed)


def _clicks(number: int) -> str:
    return "1 click" if number == 1 else f"{number} clicks"


def _in_one_place(points: Floats, pixels: Floats, side: int) -> bool:
    spread = np.linalg.norm(pixels - np.median(pixels, axis=0), axis=1)
    return bool(np.median(spread) < _ONE_PLACE * side and np.linalg.norm(np.ptp(points, axis=0)) > _FAR)


class _Clicks:
    """Points and where they were clicked."""

    def __init__(self, points: Floats, pixels: Floats, width: int, height: int, focal: float | None) -> None:
        self.points, self.pixels, self.width, self.height = points, pixels, width, height
        self.side = max(width, height)
        self.log_focal = math.log(FOCAL * self.side if focal is None else focal)
        self._focal_spread = FOCAL_SPREAD if focal is None else 1e-3
        self._focals = self.log_focal + self._focal_spread * (_FOCALS if focal is None else np.zeros(1))

    def away(self, parameters: Floats) -> Floats:
        """Pixels (N, 2) from each click to where its point is seen."""
        return projected(parameters, self.points, self.width, self.height) - self.pixels

    def cost(self, parameters: Floats, sigma: float) -> float:
        """How badly all clicks are explained, squared standard deviations; a wrong click counts as the limit."""
        squared = (self.away(parameters) ** 2).sum(1) / sigma**2
        return float(np.minimum(squared, INLIER**2).sum())

    def hypotheses(self, seed: int) -> Floats:
        """Cameras (H, 7) that see three points each where they were clicked, the best first."""
        triples = np.array(list(itertools.combinations(range(len(self.points)), 3)))
        if len(triples) > _TRIPLES:
            triples = np.random.default_rng(seed).permutation(triples)[:_TRIPLES]
        found = []
        for log_focal in self._focals:
            local = (self.pixels - np.array([self.width / 2, self.height / 2])) / np.exp(log_focal)
            rays = np.concatenate([local, np.ones((len(local), 1))], axis=1)
            rays /= np.linalg.norm(rays, axis=1, keepdims=True)
            rotations, positions = cameras_of_three(self.points[triples], rays[triples])
            sound = np.isfinite(rotations).all((2, 3)) & np.isfinite(positions).all(2)
            rotation, position = rotations[sound], positions[sound]
            inside = np.einsum("hji,hnj->hni", rotation, self.points[None] - position[:, None])
            depth = np.maximum(inside[..., 2], 1e-3)
            seen = np.exp(log_focal) * inside[..., :2] / depth[..., None]
            away = seen + np.array([self.width / 2, self.height / 2]) - self.pixels
            cost = np.minimum((away**2).sum(2) / (_COARSE * self.side) ** 2, 1.0).sum(1)
            if len(cost):
                turned = Rotation.from_matrix(rotation).as_rotvec()
                column = np.full((len(cost), 1), log_focal)
                found.append(np.concatenate([turned, position, column, cost[:, None]], axis=1))
        every = np.concatenate(found) if found else np.zeros((0, 8))
        ordered: Floats = every[np.argsort(every[:, 7], kind="stable"), :7]
        return ordered

    def _solve(self, start: Floats, sigma: float, chosen: Booleans, *, robust: bool) -> Floats:
        def residuals(parameters: Floats) -> Floats:
            return self._residuals(parameters, sigma, chosen)

        loss: Literal["cauchy", "linear"] = "cauchy" if robust else "linear"
        return np.asarray(least_squares(residuals, start, loss=loss, x_scale="jac", max_nfev=40).x)

    def _residuals(self, parameters: Floats, sigma: float, chosen: Booleans) -> Floats:
        usual = (parameters[6] - self.log_focal) / self._focal_spread
        return np.append((self.away(parameters)[chosen] / sigma).ravel(), usual)

    def refined(self, start: Floats) -> CameraFit:
        """The solution near a start, with its own scatter and clicks."""
        usual = _CLICK * self.side
        chosen = np.ones(len(self.points), np.bool_)
        parameters, sigma = self._solve(start, usual, chosen, robust=True), usual
        for _ in range(6):
            lengths = np.linalg.norm(self.away(parameters), axis=1)
            before, chosen = chosen, lengths < INLIER * sigma
            if chosen.sum() < FEWEST_CLICKS - 1:  # the nearest, so that there is a camera to show what is wrong
                chosen = lengths <= np.sort(lengths)[FEWEST_CLICKS - 2]
            parameters = self._solve(parameters, sigma, chosen, robust=False)
            missed = (self.away(parameters)[chosen] ** 2).sum()
            free = max(2 * int(chosen.sum()) - 7, 0)
            sigma = math.sqrt((missed + 2 * _CLICKS_WORTH * usual**2) / (free + 2 * _CLICKS_WORTH))
            sigma = max(sigma, FINEST)
            if (before == chosen).all():
                break
        slopes = slopes_of(lambda p: self._residuals(p, sigma, chosen), parameters)
        covariance = np.zeros((10, 10))
        covariance[:7, :7] = covariance_of(slopes)
        return CameraFit(
            parameters=np.concatenate([parameters, np.zeros(3)]),
            covariance=covariance,
            width=self.width,
            height=self.height,
            inliers=chosen,
            sigma=sigma,
            cost=self.cost(parameters, sigma),
            below=bool(parameters[5] < self.points[:, 2].min()),
        )

    def best(self, seed: int, reach: Floats) -> CameraFit | None:
        """The best camera, with another one that is as good if there is one; None where none sees the points."""
        distinct: list[Floats] = []
        seen: list[Floats] = []
        for parameters in self.hypotheses(seed):
            places = projected(parameters, self.points, self.width, self.height)
            new = all(np.median(np.linalg.norm(places - other, axis=1)) > _OTHER * self.side for other in seen)
            if new or not any(np.linalg.norm(parameters[3:6] - other[3:6]) < 0.1 for other in distinct):
                distinct.append(parameters)
                seen.append(places)
            if len(distinct) == _REFINED:
                break
        found = sorted((self.refined(start) for start in distinct), key=lambda camera: self.cost_by(camera, _CLICK))
        if not found:
            return None
        best = found[0]
        for other in found[1:]:
            worse = self.cost_by(other, best.sigma / self.side) - self.cost_by(best, best.sigma / self.side)
            if worse < EQUALLY_GOOD and apart(best, other, reach) > DIFFERENT * self.side:
                return CameraFit(**{**vars(best), "other": other})
        return best

    def cost_by(self, camera: CameraFit, share: float) -> float:
        """`cost` of a camera with a scatter that is a share of the longer side."""
        return self.cost(camera.parameters[:7], share * self.side)


def _judged(search: _Clicks, camera: CameraFit, reach: Floats, *, fixed: bool) -> ClickedCamera:
    misses = np.linalg.norm(camera.pixels(search.points) - search.pixels, axis=1)
    misses[~np.isfinite(misses)] = np.inf
    sure = float(np.quantile(camera.uncertainty(reach), 0.9)) / search.side
    used, number = int(camera.inliers.sum()), len(search.points)
    reasons = []
    if used < max(FEWEST_CLICKS - 1, _AGREE * number):
        reasons.append(
            f"only {used} of {number} clicks fit one camera: click the point between the finger tips in every frame, "
            "and see that joints, signs and units are those of this arm, and that this is its camera"
        )
    elif fixed and camera.below:
        reasons.append(
            "the camera would be below everything that was clicked, which is how a mirrored picture looks: turn the "
            "mirror off"
        )
    elif camera.other is not None:
        reasons.append("two cameras explain the clicks equally well: click in frames where the gripper is higher")
    if not reasons and not sure <= USABLE:
        more = math.ceil(number * ((sure / USABLE) ** 2 - 1)) if math.isfinite(sure) else 0
        about = f" (about {more} more)" if 0 < more < 50 else ""
        reasons.append(
            f"a label would be uncertain by {sure:.1%} of the picture's longer side, expected {USABLE:.0%} at most: "
            f"click in more frames{about}"
        )
    return ClickedCamera(camera, np.flatnonzero(~camera.inliers).tolist(), misses, sure, reasons)
