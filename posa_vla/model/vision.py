"""The small preset's visual encoder: images to a grid of features."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from posa_vla.model.features import VisualFeatures


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, padding=1),
        )
        last = self.net[-1]
        assert isinstance(last, nn.Conv2d)  # for the type checker
        nn.init.zeros_(last.weight)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.net(x)
        return out


class _Coarser(nn.Module):
    """Adds to features what a network makes of them on a grid half as fine."""

    def __init__(self, width: int, inner: nn.Module) -> None:
        super().__init__()
        self.down = nn.Conv2d(width, width, 3, stride=2, padding=1)
        self.inner = inner
        self.up = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        seen = self.up(self.inner(F.relu(self.down(x))))
        return x + F.interpolate(seen, size=x.shape[-2:], mode="nearest")


class VisionEncoder(nn.Module):
    """A residual convolutional network, one for all cameras: (d, grid, grid) features an image, F_I and F_DINO in one.

    Two coordinate channels are added to the colours, since where something is matters as much as what it is.
    """

    def __init__(self, image_size: int, grid: int, width: int, *, trunk: str = "pyramid", blocks: int = 2) -> None:
        super().__init__()
        stride = image_size // grid
        if stride * grid != image_size or stride & (stride - 1):
            raise ValueError(f"image size {image_size} over grid {grid} must be a power of two")
        self.grid = self.dense_grid = grid
        self.dense_width = width
        layers: list[nn.Module] = []
        channels, size = 5, image_size
        while size > grid:
            # A multiple of eight, as processors compute them, where the narrow layers are a good part of the cost.
            narrow = max(width // 3, 16) if trunk == "flat" else max(-(-width // 24) * 8, 16)
            out = width if size // 2 == grid else narrow
            layers += [nn.Conv2d(channels, out, 5 if channels == 5 else 3, stride=2, padding=2 if channels == 5 else 1)]
            layers += [nn.ReLU(inplace=True)]
            channels, size = out, size // 2
        residual = nn.Sequential(*(_Residual(width) for _ in range(blocks)))
        layers += residual if trunk == "flat" else [_Coarser(width, residual)]
        layers += [nn.GroupNorm(8, width)]
        self.net = nn.Sequential(*layers)
        line = (torch.arange(image_size) + 0.5) / image_size * 2 - 1
        self.register_buffer("coordinates", torch.stack(torch.meshgrid(line, line, indexing="xy"))[None], False)

    def forward(self, images: Tensor) -> VisualFeatures:
        """Encodes uint8 (N, H, W, 3)."""
        colours = images.permute(0, 3, 1, 2).float().mul_(1 / 127.5).sub_(1.0)
        # shape[0] and not len(), which would fix the batch of an exported program
        coordinates = self.get_buffer("coordinates").expand(images.shape[0], -1, -1, -1)
        x = torch.cat([colours, coordinates], 1).to(memory_format=torch.channels_last)
        features: Tensor = self.net(x)
        return VisualFeatures(features, features)
