"""Films of held-out episodes: what the cameras saw, and what was done beside what the policy asked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from posa_vla.episodes.embodiment import Channel
from posa_vla.evaluation.held_out import PackedEpisodes
from posa_vla.evaluation.offline import Replay
from posa_vla.evaluation.pictures import TILE, Picture, enlarge, mp4, overlay, titled
from posa_vla.evidence.offline import OfflineEvidence
from posa_vla.objects.contract import Objects

# Width and height of a channel's curves, pixels, and how many channels are drawn.
_CURVES = (512, 92)
_CHANNELS = 4
_RECORDED, _ASKED, _NOW = (40, 40, 40), (11, 107, 203), (179, 38, 30)
# Frames that are decoded at once.
_AT_ONCE = 64


@dataclass(frozen=True)
class Film:
    """A film of one episode.

    Attributes:
        number: The episode's, among the held-out ones.
        video: MP4.
        channels: Action channels that it draws, the worst first.
    """

    number: int
    video: bytes
    channels: list[str]


def film(replay: Replay, episodes: PackedEpisodes, channels: list[Channel], scale: NDArray[np.float64]) -> Film:
    """Draws one episode: cameras on the left, under the anchor attention where there is one, curves on the right.

    Args:
        replay: The episode and what was asked for along it.
        episodes: The split that it is of.
        channels: Of the action.
        scale: float64 (A,), see `posa_vla.evaluation.offline_baselines.scales`.
    """
    worst = worst_channels(replay, scale)
    curves = np.concatenate([_curves(replay, channels[c], c) for c in worst])
    pictures = mp4(_frames(replay, episodes, curves), max(round(episodes.fps), 1))
    return Film(replay.episode.number, pictures, [channels[c].name for c in worst])


def film_path(reports: str, number: int) -> str:
    """Where the film of an episode lies in the storage, below the folder of an evaluation's reports."""
    return f"{reports}/films/{number}.mp4"


def kept_films(storage: Objects, reports: str, evidence: OfflineEvidence) -> dict[int, bytes]:
    """Number of a held-out episode -> its film, the worst first."""
    there = set(storage.list(f"{reports}/films/"))
    rows = sorted(evidence.episodes, key=lambda row: (row.policy is not None, -(row.policy or 0)))
    wanted = {row.number: film_path(reports, row.number) for row in rows}
    found = {number: storage.get(path) for number, path in wanted.items() if path in there}
    return {number: film for number, film in found.items() if film is not None}


def worst_channels(replay: Replay, scale: NDArray[np.float64]) -> list[int]:
    """Columns of the channels whose executed actions are furthest from the recorded ones, in their scales."""
    apart = np.abs(replay.asked.astype(np.float64) - replay.recorded).mean(axis=0) / scale
    order = np.argsort(-np.nan_to_num(apart, nan=np.inf), kind="stable")
    return [int(c) for c in order[:_CHANNELS]]


def _frames(replay: Replay, episodes: PackedEpisodes, curves: Picture) -> Iterator[Picture]:
    first, length = int(replay.looks[0]), len(replay.recorded)
    for begin in range(0, length, _AT_ONCE):
        frames = range(begin, min(begin + _AT_ONCE, length))
        seen = episodes.observations([first + frame for frame in frames])
        for frame, observation in zip(frames, seen, strict=True):
            look = int(np.searchsorted(replay.looks - first, frame, side="right")) - 1
            tiles = []
            for role, image in observation.images.items():
                picture = enlarge(image, TILE)
                if role in replay.attention:
                    picture = overlay(picture, replay.attention[role][look])
                tiles.append(titled(picture, f"{role} camera"))
            yield _beside(np.concatenate(tiles), _with_cursor(curves, frame, length))


def _beside(left: Picture, right: Picture) -> Picture:
    height = -(-max(len(left), len(right)) // 2) * 2
    return np.concatenate([_padded(left, height), _padded(right, height)], axis=1)


def _padded(picture: Picture, height: int) -> Picture:
    missing = height - len(picture)
    return np.pad(picture, ((0, missing), (0, 0), (0, 0)), constant_values=255)


def _curves(replay: Replay, channel: Channel, column: int) -> Picture:
    """One channel over the episode: recorded dark, asked for in blue."""
    width, height = _CURVES
    done, asked = replay.recorded[:, column], replay.asked[:, column]
    known = np.concatenate([done, asked[np.isfinite(asked)]])
    low, high = float(known.min()), float(known.max())
    image = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(image)
    for values, colour in ((done, _RECORDED), (asked, _ASKED)):
        x = _at(np.arange(len(values)), len(values))
        y = height - 6 - (values - low) / max(high - low, 1e-9) * (height - 30)
        points = [(float(a), float(b)) for a, b in zip(x, y, strict=True) if np.isfinite(b)]
        if len(points) > 1:
            draw.line(points, fill=colour, width=2)
    unit = "" if channel.unit in {"unstated", "1"} else f" {channel.unit}"
    draw.text((4, 2), f"{channel.name}: {low:.3g} to {high:.3g}{unit}; recorded", fill=_RECORDED)
    draw.text((width - 90, 2), "policy asks", fill=_ASKED)
    return np.asarray(image)


def _at(frames: NDArray[np.int64], length: int) -> NDArray[np.float64]:
    x: NDArray[np.float64] = 4 + frames / max(length - 1, 1) * (_CURVES[0] - 9)
    return x


def _with_cursor(curves: Picture, frame: int, length: int) -> Picture:
    picture = curves.copy()
    picture[:, int(_at(np.array([frame]), length)[0])] = _NOW
    return picture
