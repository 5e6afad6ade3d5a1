"""Images of an episode that are decoded when they are looked at, and their fit into the square that a model sees."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

# A larger picture is no camera's: nothing is decoded that would fill the memory.
LARGEST_PIXELS = 64_000_000


class StoredImages(ABC):
    """T encoded images of one size; iterating decodes them in order, each uint8 (H, W, 3), RGB.

    Attributes:
        shape: (T, H, W, 3).
    """

    dtype: ClassVar[np.dtype[np.uint8]] = np.dtype(np.uint8)
    ndim: ClassVar[int] = 4

    def __init__(self, frames: int, height: int, width: int) -> None:
        self.shape = (frames, height, width, 3)

    def __len__(self) -> int:
        return self.shape[0]

    @abstractmethod
    def __iter__(self) -> Iterator[NDArray[np.uint8]]: ...

    @abstractmethod
    def payloads(self) -> Iterator[bytes]:
        """The encoded bytes, piece by piece: what the episode's digest is made of, whoever decodes them.

        Raises:
            BadInput: The file is missing or damaged, or holds another number of images.
        """
        ...

    def first_encoded(self) -> bytes:
        """The first image encoded, the same whichever container it was copied into.

        Raises:
            BadInput: See `payloads`.
        """
        return next(self.payloads())

    @abstractmethod
    def middle(self) -> NDArray[np.uint8]:
        """The image in the middle, uint8 (H, W, 3), without decoding the others where the file allows it.

        Raises:
            BadInput: See `payloads`.
        """
        ...


Images = NDArray[np.uint8] | StoredImages


@dataclass(frozen=True)
class Fit:
    """How an image of one size lies in a square: scaled as a whole, in the middle, black beside it.

    Attributes:
        size: Side of the square (pixels).
        width: Width of the scaled image.
        height: Its height.
        left: Its first column in the square.
        top: Its first row.
        scale: (2,) float64, scaled over original pixels along (u, v).
    """

    size: int
    width: int
    height: int
    left: int
    top: int
    scale: NDArray[np.float64]

    @staticmethod
    def of(height: int, width: int, size: int) -> Fit:
        """The largest fit of an image of `height` x `width` into a square of side `size`."""
        longest = max(height, width)
        across, down = max(round(width * size / longest), 1), max(round(height * size / longest), 1)
        scale = np.array([across / width, down / height])
        return Fit(size, across, down, (size - across) // 2, (size - down) // 2, scale)

    def points(self, pixels: NDArray[np.floating]) -> NDArray[np.float64]:
        """(..., 2) image coordinates (u, v) of the original as coordinates in the square."""
        fitted: NDArray[np.float64] = np.asarray(pixels, np.float64) * self.scale + np.array([self.left, self.top])
        return fitted

    def image(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """uint8 (size, size, 3) of an image uint8 (H, W, 3); itself, where it has that size already.

        Pixels are averaged over the area that they cover (Pillow's box filter), so that fine patterns do not alias.
        """
        if image.shape[:2] == (self.size, self.size):
            return image
        scaled = Image.fromarray(image).resize((self.width, self.height), Image.Resampling.BOX)
        square = np.zeros((self.size, self.size, 3), np.uint8)
        square[self.top : self.top + self.height, self.left : self.left + self.width] = np.asarray(scaled)
        return square


def fit_image(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """uint8 (size, size, 3) of one image uint8 (H, W, 3) of any size; see `Fit.image`."""
    return Fit.of(image.shape[0], image.shape[1], size).image(image)


def fit_images(images: Images, size: int) -> NDArray[np.uint8]:
    """uint8 (T, size, size, 3) of images of any size, one decoded image in memory at a time."""
    frames, height, width, _ = images.shape
    if isinstance(images, np.ndarray) and (height, width) == (size, size):
        return images
    fit = Fit.of(height, width, size)
    fitted = np.empty((frames, size, size, 3), np.uint8)
    for frame, image in enumerate(images):
        fitted[frame] = fit.image(image)
    return fitted
