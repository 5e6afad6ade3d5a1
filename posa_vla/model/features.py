"""The features that a visual encoder computes."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class VisualFeatures(NamedTuple):
    """Features of N images.

    Attributes:
        attended: (N, d, h, w) F_I, which the anchor attention looks at.
        dense: (N, e, k, l) F_DINO, which it gates for the action head.
    """

    attended: Tensor
    dense: Tensor
