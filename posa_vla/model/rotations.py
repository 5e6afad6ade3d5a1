"""Rotations as tensors: from and to the forms in which actions hold them; each function can be exported."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from posa_vla.episodes.rotation_rule import RotationForm


def to_matrix(values: Tensor, form: RotationForm) -> Tensor:
    """Rotation matrices (..., 3, 3) of a form's numbers (..., 3 or 4), angles in rad; see `RotationRule`."""
    match form:
        case "quaternion_wxyz":
            return _quaternion_matrix(values)
        case "quaternion_xyzw":
            return _quaternion_matrix(values.roll(1, -1))
        case "rotation_vector":
            half = values.norm(dim=-1, keepdim=True) / 2
            # sin(x) / x, which is 1 at 0; torch's sinc has pi in it.
            return _quaternion_matrix(torch.cat([half.cos(), values / 2 * torch.sinc(half / math.pi)], -1))
        case "euler_xyz":
            (sa, sb, sc), (ca, cb, cc) = values.sin().unbind(-1), values.cos().unbind(-1)
            rows = [
                [cc * cb, cc * sb * sa - sc * ca, cc * sb * ca + sc * sa],
                [sc * cb, sc * sb * sa + cc * ca, sc * sb * ca - cc * sa],
                [-sb, cb * sa, cb * ca],
            ]
            return torch.stack([torch.stack(row, -1) for row in rows], -2)


def from_matrix(matrix: Tensor, form: RotationForm, near: Tensor) -> Tensor:
    """A form's numbers (..., 3 or 4) of rotation matrices (..., 3, 3), angles in rad.

    Args:
        matrix: Rotations.
        form: See `RotationRule`.
        near: (..., 3 or 4), numbers of the form: of the many that are one rotation (two quaternions, angles and
            vectors that are whole turns apart) those nearest to these are returned.
    """
    match form:
        case "quaternion_wxyz":
            return _facing(_matrix_quaternion(matrix), near)
        case "quaternion_xyzw":
            return _facing(_matrix_quaternion(matrix).roll(-1, -1), near)
        case "rotation_vector":
            return _nearest_vector(_matrix_quaternion(matrix), near)
        case "euler_xyz":
            m = matrix
            pitch = torch.atan2(-m[..., 2, 0], torch.hypot(m[..., 0, 0], m[..., 1, 0]))
            angles = [
                torch.atan2(m[..., 2, 1], m[..., 2, 2]),
                pitch,
                torch.atan2(m[..., 1, 0], m[..., 0, 0]),
            ]
            found = torch.stack(angles, -1)
            # The same rotation with a pitch on the other side of a right angle.
            other = torch.stack([angles[0] + math.pi, math.pi - pitch, angles[2] + math.pi], -1)
            one, two = (x + 2 * math.pi * torch.round((near - x) / (2 * math.pi)) for x in (found, other))
            nearer = (one - near).norm(dim=-1, keepdim=True) <= (two - near).norm(dim=-1, keepdim=True)
            return torch.where(nearer, one, two)


def to_six(matrix: Tensor) -> Tensor:
    """The first two columns (..., 6) of rotation matrices (..., 3, 3), which have no jumps (Zhou et al. 2019)."""
    return torch.cat([matrix[..., 0], matrix[..., 1]], -1)


def from_six(six: Tensor) -> Tensor:
    """Rotation matrices (..., 3, 3) of any six numbers, by Gram and Schmidt's orthogonalisation (Zhou et al. 2019)."""
    first = F.normalize(six[..., :3], dim=-1)
    second = six[..., 3:] - (first * six[..., 3:]).sum(-1, keepdim=True) * first
    second = F.normalize(second, dim=-1)
    return torch.stack([first, second, torch.linalg.cross(first, second)], -1)


def _quaternion_matrix(quaternion: Tensor) -> Tensor:
    w, x, y, z = F.normalize(quaternion, dim=-1).unbind(-1)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return torch.stack([torch.stack(row, -1) for row in rows], -2)


def _matrix_quaternion(matrix: Tensor) -> Tensor:
    """`wxyz`, w >= 0. Four times the quaternion's square is a matrix of rank one, of which the longest row is taken."""
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = (row.unbind(-1) for row in matrix.unbind(-2))
    rows = [
        [1 + xx + yy + zz, zy - yz, xz - zx, yx - xy],
        [zy - yz, 1 + xx - yy - zz, xy + yx, xz + zx],
        [xz - zx, xy + yx, 1 - xx + yy - zz, yz + zy],
        [yx - xy, xz + zx, yz + zy, 1 - xx - yy + zz],
    ]
    products = torch.stack([torch.stack(row, -1) for row in rows], -2)
    longest = products.diagonal(dim1=-2, dim2=-1).argmax(-1)[..., None, None].expand(*products.shape[:-2], 1, 4)
    quaternion = F.normalize(products.gather(-2, longest).squeeze(-2), dim=-1)
    return torch.where(quaternion[..., :1] < 0, -quaternion, quaternion)


def _nearest_vector(quaternion: Tensor, near: Tensor) -> Tensor:
    sine = quaternion[..., 1:].norm(dim=-1, keepdim=True)
    angle = 2 * torch.atan2(sine, quaternion[..., :1])
    vector = quaternion[..., 1:] * (angle / sine.clamp(min=1e-8))
    # No turn at all is a whole one about any axis.
    axis = torch.where(sine > 1e-6, quaternion[..., 1:] / sine.clamp(min=1e-8), F.normalize(near, dim=-1))
    turns = torch.round(((axis * near).sum(-1, keepdim=True) - angle) / (2 * math.pi))
    nearest: Tensor = vector + 2 * math.pi * turns * axis
    return nearest


def _facing(quaternion: Tensor, near: Tensor) -> Tensor:
    away = (quaternion * near).sum(-1, keepdim=True) < 0
    return torch.where(away, -quaternion, quaternion)
