"""What people look at: rollout videos and anchor attention over what the robot saw."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from posa_vla.evaluation.rollout import Rollout
from posa_vla.objects import Objects

Picture = NDArray[np.uint8]

# Width and height of one camera's picture in videos and sheets (pixels).
_TILE = 256
_CAPTION = 24
# Task anchor in orange, end-effector anchor in cyan.
CHANNEL_COLOURS = np.array([[255, 140, 0], [0, 200, 255]], np.float32)


def enlarge(image: Picture, size: int) -> Picture:
    """Scales a picture up to a square of `size` pixels without smoothing, so that its own pixels stay visible."""
    return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.NEAREST))


def overlay(image: Picture, attention: NDArray[np.float32]) -> Picture:
    """Paints both attention channels over a picture.

    Args:
        image: uint8 (H, W, 3).
        attention: float32 (2, h, w) in [0, 1]: task (orange), end-effector (cyan).

    Returns:
        uint8 (H, W, 3), the picture darkened where nothing is attended to.
    """
    height, width = image.shape[:2]
    painted = image.astype(np.float32) * 0.55
    for maps, colour in zip(attention, CHANNEL_COLOURS, strict=True):
        scaled = Image.fromarray(np.asarray(maps, np.float32)).resize((width, height), Image.Resampling.BILINEAR)
        weight = np.clip(np.asarray(scaled), 0, 1)[..., None] * 0.75
        painted = painted * (1 - weight) + colour * weight
    done: Picture = np.clip(painted, 0, 255).astype(np.uint8)
    return done


def _frame(rollout: Rollout, step: int) -> Picture:
    """All cameras side by side, above the same under the attention, above the instruction."""
    roles = list(rollout.images)
    rows = [np.concatenate([enlarge(rollout.images[role][step], _TILE) for role in roles], axis=1)]
    if rollout.attention:
        tiles = [overlay(enlarge(rollout.images[r][step], _TILE), rollout.attention[r][step]) for r in roles]
        rows.append(np.concatenate(tiles, axis=1))
    caption = Image.new("RGB", (rows[0].shape[1], _CAPTION), "white")
    ImageDraw.Draw(caption).text((6, 5), f"{rollout.instruction}   step {step + 1}", fill="black")
    return np.concatenate([np.asarray(caption), *rows], axis=0)


def video(rollout: Rollout, fps: int = 10) -> bytes:
    """A recorded rollout as an MP4: H.264, or MPEG-4 where PyAV has no x264."""
    import av

    codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream: Any = container.add_stream(codec, rate=fps)
        stream.pix_fmt = "yuv420p"
        stream.height, stream.width = _frame(rollout, 0).shape[:2]
        for step in range(len(next(iter(rollout.images.values())))):
            picture = _frame(rollout, step)
            for packet in stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), "rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return file.getvalue()


def sheet(rollout: Rollout, count: int = 4) -> bytes:
    """`count` moments of a recorded rollout, evenly spread, as one PNG."""
    steps = len(next(iter(rollout.images.values())))
    moments = np.unique(np.linspace(0, steps - 1, count).round().astype(int))
    file = io.BytesIO()
    Image.fromarray(np.concatenate([_frame(rollout, int(step)) for step in moments], axis=1)).save(file, format="PNG")
    return file.getvalue()


def keep_rollout(objects: Objects, folder: str, rollout: Rollout) -> None:
    """Keeps video and overlays of a recorded rollout below an evaluation's folder."""
    if not rollout.images:
        return
    name = f"{'solved' if rollout.row.success else 'failed'}-{rollout.row.scene_seed}"
    objects.put(f"{folder}/videos/{name}.mp4", video(rollout))
    if rollout.attention:
        objects.put(f"{folder}/overlays/{name}.png", sheet(rollout))
