"""A picture with its frame's anchors, and how sure they are."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from posa_vla.dataset.labels import AnchorLabels
from posa_vla.html_page import data_url

# Of the task's anchor, and of the end-effector's.
COLOURS = ((255, 140, 0), (40, 110, 255))
# What the marks mean, as HTML.
KEY = (
    '<span><span style="color:rgb(255,140,0)">●</span> task anchor</span>'
    '<span><span style="color:rgb(40,110,255)">●</span> end-effector anchor</span>'
    "<span>thin ring: one standard deviation, of a camera that was found</span>"
)


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
    for channel, colour in enumerate(COLOURS):
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
