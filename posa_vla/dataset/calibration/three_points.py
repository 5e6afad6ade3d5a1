"""Cameras that see three points where they are seen: the hypotheses of RANSAC."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# Largest imaginary part of a root that counts as real: noise makes two close solutions a complex pair.
_REAL = 0.05


def cameras_of_three(points: Floats, rays: Floats) -> tuple[Floats, Floats]:
    """All cameras that see three points along three rays (Grunert's solution, after Haralick et al. 1994).

    Args:
        points: float64 (M, 3, 3): three points for each of M cameras, m.
        rays: float64 (M, 3, 3): the directions in which they are seen, unit vectors, camera frame (OpenCV axes).

    Returns:
        Rotations (camera to the points' frame) float64 (M, 4, 3, 3) and positions (m) float64 (M, 4, 3); NaN where
        there are fewer than four.
    """
    first, second, third = points[:, 0], points[:, 1], points[:, 2]
    with np.errstate(all="ignore"):  # three points on a line, or one seen twice, give no camera but NaN
        aa, bb, cc = (((one - other) ** 2).sum(1) for one, other in ((second, third), (first, third), (first, second)))
        alpha, beta, gamma = ((rays[:, i] * rays[:, j]).sum(1) for i, j in ((1, 2), (0, 2), (0, 1)))
        quotient, both = (aa - cc) / bb, (aa + cc) / bb
        quartic = np.stack(
            [
                (quotient - 1) ** 2 - 4 * cc / bb * alpha**2,
                4 * (quotient * (1 - quotient) * beta - (1 - both) * alpha * gamma + 2 * cc / bb * alpha**2 * beta),
                2
                * (
                    quotient**2
                    - 1
                    + 2 * quotient**2 * beta**2
                    + 2 * (bb - cc) / bb * alpha**2
                    - 4 * both * alpha * beta * gamma
                    + 2 * (bb - aa) / bb * gamma**2
                ),
                4 * (-quotient * (1 + quotient) * beta + 2 * aa / bb * gamma**2 * beta - (1 - both) * alpha * gamma),
                (1 + quotient) ** 2 - 4 * aa / bb * gamma**2,
            ],
            axis=1,
        )
        v = _real_roots(quartic)
        quotient, alpha, beta, gamma, bb = (value[:, None] for value in (quotient, alpha, beta, gamma, bb))
        u = ((quotient - 1) * v**2 - 2 * quotient * beta * v + 1 + quotient) / (2 * (gamma - v * alpha))
        nearest = np.sqrt(bb / (1 + v**2 - 2 * v * beta))
        away = np.stack([nearest, u * nearest, v * nearest], axis=2)
        away[~(away > 0).all(2)] = np.nan
        seen = away[..., None] * rays[:, None]
        rotation = np.einsum("mij,mskj->msik", _triad(points)[:, :, :], _triad(seen))
        position = first[:, None] - np.einsum("msij,msj->msi", rotation, seen[:, :, 0])
    return rotation, position


def _real_roots(quartic: Floats) -> Floats:
    """Real roots (M, 4) of quartics (M, 5), the highest power first; NaN where there are fewer."""
    companion = np.zeros((len(quartic), 4, 4))
    companion[:, 1:, :3] = np.eye(3)
    scaled = -quartic[:, 1:] / quartic[:, :1]
    sound = np.asarray(np.isfinite(scaled).all(axis=1))
    companion[:, 0] = np.where(sound[:, None], scaled, 0.0)
    # Rows of coefficients on top, ones below the diagonal: its eigenvalues are the roots.
    roots = np.linalg.eigvals(companion)
    real = sound[:, None] & (np.abs(roots.imag) < _REAL)
    return np.where(real, roots.real, np.nan)


def _triad(points: Floats) -> Floats:
    """Frames (..., 3, 3), axes in columns, that three points (..., 3, 3) (in rows) span."""
    along = points[..., 1, :] - points[..., 0, :]
    along = along / np.linalg.norm(along, axis=-1, keepdims=True)
    across = np.cross(along, points[..., 2, :] - points[..., 0, :])
    across = across / np.linalg.norm(across, axis=-1, keepdims=True)
    return np.stack([along, across, np.cross(along, across)], axis=-1)
