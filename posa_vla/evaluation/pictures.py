"""What people look at: rollout videos and anchor attention over what the robot saw."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from posa_vla.evaluation.rollout import Rollout
from posa_vla.objects.contract import Objects

Picture = NDArray[np.uint8]

# Width and height of one camera's picture in videos and sheets (pixels).
TILE = 256
_CAPTION = 24
# Task anchor in orange, end-effector anchors in cyan, green, yellow, red; after these the first again.
CHANNEL_COLOURS = np.array([[255, 140, 0], [0, 200, 255], [80, 220, 80], [255, 230, 0], [230, 60, 60]], np.float32)
HEAT_COLOUR = np.array([255, 60, 200], np.float32)


def enlarge(image: Picture, size: int) -> Picture:
    """Scales a picture up to a square of `size` pixels without smoothing, so that its own pixels stay visible."""
    return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.NEAREST))


def overlay(image: Picture, attention: NDArray[np.float32], colours: NDArray[np.float32] = CHANNEL_COLOURS) -> Picture:
    """Paints attention channels over a picture.

    Args:
        image: uint8 (H, W, 3).
        attention: float32 (K, h, w) in [0, 1]: task (orange), and each end-effector (cyan, ...) that has one.
        colours: float32 (N, 3), RGB of the channels, repeated where there are more.

    Returns:
        uint8 (H, W, 3), the picture darkened where nothing is attended to.
    """
    height, width = image.shape[:2]
    painted = image.astype(np.float32) * 0.55
    for channel, maps in enumerate(attention):
        colour = colours[channel % len(colours)]
        scaled = Image.fromarray(np.asarray(maps, np.float32)).resize((width, height), Image.Resampling.BILINEAR)
        weight = np.clip(np.asarray(scaled), 0, 1)[..., None] * 0.75
        painted = painted * (1 - weight) + colour * weight
    done: Picture = np.clip(painted, 0, 255).astype(np.uint8)
    return done


def heat(image: Picture, share: NDArray[np.float32]) -> Picture:
    """Paints the action head's attention over a picture.

    Args:
        image: uint8 (H, W, 3).
        share: float32 (k, l), share of each cell.

    Returns:
        uint8 (H, W, 3), magenta where the action head looks more than at most cells; even attention paints nothing.
    """
    above = np.asarray(share, np.float32) - np.median(share)
    return overlay(image, (above / max(float(above.max()), float(share.mean()), 1e-9))[None], HEAT_COLOUR[None])


def _strip(rollout: Rollout, roles: list[str], step: int) -> list[Picture]:
    """Pictures of each camera as it was seen, under the anchor attention where there is one, and the action head's."""
    seen = {role: enlarge(rollout.images[role][step], TILE) for role in roles}
    tiles = [(f"{role} camera", seen[role]) for role in roles]
    if rollout.attention:
        tiles += [(f"{role}: anchors", overlay(seen[role], rollout.attention[role][step])) for role in roles]
    if rollout.cross_attention:
        head = "action head" if rollout.attention else "action head (the policy has no anchors)"
        tiles += [(f"{role}: {head}", heat(seen[role], rollout.cross_attention[role][step])) for role in roles]
    return [titled(picture, title) for title, picture in tiles]


def titled(picture: Picture, title: str) -> Picture:
    """The picture with a title in its corner."""
    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 0, 7 + round(draw.textlength(title)), 15), fill="black")
    draw.text((4, 2), title, fill="white")
    return np.asarray(image)


def _frame(rollout: Rollout, step: int) -> Picture:
    """All cameras side by side; below them the same under the anchor attention and under the action head's."""
    roles = list(rollout.images)
    tiles = _strip(rollout, roles, step)
    rows = [np.concatenate(tiles[i : i + len(roles)], axis=1) for i in range(0, len(tiles), len(roles))]
    caption = Image.new("RGB", (rows[0].shape[1], _CAPTION), "white")
    asked = rollout.instruction if rollout.prompts is None else rollout.prompts[step]
    ImageDraw.Draw(caption).text((6, 5), f"{asked}   step {step + 1}", fill="black")
    return np.concatenate([np.asarray(caption), *rows], axis=0)


def mp4(pictures: Iterable[Picture], fps: int) -> bytes:
    """Pictures uint8 (H, W, 3) of one size as an MP4: H.264, or MPEG-4 where PyAV has no x264."""
    import av

    codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream: Any = container.add_stream(codec, rate=fps)
        stream.pix_fmt = "yuv420p"
        for number, picture in enumerate(pictures):
            if number == 0:
                stream.height, stream.width = picture.shape[:2]
            for packet in stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), "rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return file.getvalue()


def video(rollout: Rollout, fps: int = 10) -> bytes:
    """A recorded rollout as an MP4."""
    return mp4((_frame(rollout, step) for step in range(len(next(iter(rollout.images.values()))))), fps)


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
    if rollout.attention or rollout.cross_attention:
        objects.put(f"{folder}/overlays/{name}.png", sheet(rollout))
