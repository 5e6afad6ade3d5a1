"""A picture with its frame's anchors, and how sure they are."""

from __future__ import annotations

import html
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from posa_vla.dataset.labels import AnchorLabels
from posa_vla.episodes.embodiment import Embodiment
from posa_vla.html_page import data_url

_TASK, _ENDS = (255, 140, 0), ((40, 110, 255), (30, 160, 60), (150, 60, 200), (200, 30, 60))


def key_of(embodiment: Embodiment) -> str:
    """What the marks mean, as HTML."""
    ends = [f"{name} end-effector anchor".strip() for name in embodiment.end_effectors or ("",)]
    marks = [(_TASK, "task anchor"), *((_colour(1 + n), name) for n, name in enumerate(ends))]
    dots = "".join(f'<span><span style="color:rgb{c}">●</span> {html.escape(name)}</span>' for c, name in marks)
    unsure = "thin ring: one standard deviation, of a camera that was found; what training masks is not drawn"
    return f"{dots}<span>{unsure}</span>"


def _colour(channel: int) -> tuple[int, int, int]:
    return _ENDS[(channel - 1) % len(_ENDS)] if channel else _TASK


def drawn(image: NDArray[np.uint8], labels: AnchorLabels, frame: int, side: int) -> str:
    """A picture with the anchors of its frame, as a data URL.

    Args:
        image: uint8 (H, W, 3).
        labels: Of the episode in this camera.
        frame: Of the picture.
        side: Longer side of what is drawn, pixels.
    """
    height, width = image.shape[:2]
    scale, radius = side / max(height, width), max(side / 45, 3)
    picture = Image.fromarray(image).resize((round(width * scale), round(height * scale)))
    draw = ImageDraw.Draw(picture)
    for channel in range(labels.valid.shape[1]):
        colour = _colour(channel)
        if not labels.valid[frame, channel]:
            continue
        u, v = (float(x) * scale for x in labels.points[frame, channel])
        draw.ellipse((u - radius, v - radius, u + radius, v + radius), outline=colour, width=max(round(side / 107), 2))
        spread = float(labels.spread[frame, channel]) * scale
        if 0 < spread < side:
            draw.ellipse((u - spread, v - spread, u + spread, v + spread), outline=colour, width=1)
    out = io.BytesIO()
    picture.save(out, format="JPEG", quality=80)
    return data_url(out.getvalue(), "image/jpeg")
