"""The file of clicks: what a person clicked in which frames, kept while they click, and given by scripts."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from posa_vla.errors import BadInput
from posa_vla.files import read_bytes, write_json
from posa_vla.schema import Closed, parse_json

# What is clicked: the gripper's tip, or the place where the gripper opens or closes next.
Target = Literal["tip", "place"]


def _absent(value: object) -> bool:
    return value is None


class Place(Closed):
    """A frame in which something was clicked, or in which it is hidden.

    Attributes:
        role: Of the camera.
        episode: Number of the episode in the dataset.
        frame: Number of the frame in the episode.
        of: What was to be clicked.
        end_effector: Of a robot with several, name of the one whose tip or place it is; of a camera on the hand, the
            one that it is on.
    """

    role: str
    episode: int = Field(ge=0)
    frame: int = Field(ge=0)
    of: Target = "tip"
    end_effector: str | None = Field(default=None, exclude_if=_absent)


class Click(Place):
    """A click at (u, v), continuous pixels of the recorded picture."""

    u: float = Field(ge=0)
    v: float = Field(ge=0)


class Clicks(Closed):
    """A file of clicks; that of a robot with several end effectors has version 2.

    Attributes:
        dataset: Where the dataset lies; not checked if None.
        on_hand: Roles of cameras that are on the hand, beside those that the embodiment says move.
        clicks: In the order in which they were made.
        skipped: Frames in which it is hidden.
    """

    schema_version: Literal[1, 2] = 1
    dataset: str | None = None
    on_hand: list[str] = Field(default_factory=list)
    clicks: list[Click] = Field(default_factory=list)
    skipped: list[Place] = Field(default_factory=list)

    @model_validator(mode="after")
    def _one_a_frame(self) -> Clicks:
        counts = Counter((c.role, c.of, c.episode, c.frame, c.end_effector) for c in self.clicks)
        for (role, of, episode, frame, end), count in counts.items():
            if count > 1:
                whose = "" if end is None else f" of {end}"
                raise ValueError(
                    f"camera {role}, episode {episode}, frame {frame} has {count} clicks on the {of}{whose}, expected "
                    "one"
                )
        return self


def read_clicks(path: Path) -> Clicks:
    """Reads a file of clicks.

    Raises:
        BadInput: It does not exist, or does not fit the schema.
    """
    return parse_json(Clicks, read_bytes(path), str(path))


class ClicksKept:
    """The clicks of a person who is at it, in a file after each of them, so that nothing is lost."""

    def __init__(self, path: Path, dataset: str, on_hand: list[str]) -> None:
        """Goes on with what is in the file.

        Args:
            path: The file; it need not exist.
            dataset: Where the dataset lies.
            on_hand: Roles of cameras that are on the hand.

        Raises:
            BadInput: The file is none, or holds clicks of another dataset.
        """
        self.path = path
        before = read_clicks(path) if path.exists() else Clicks(dataset=dataset)
        self._clicks = before.model_copy(update={"on_hand": sorted({*before.on_hand, *on_hand})})
        if self._clicks.dataset not in (None, dataset):
            raise BadInput(
                f"{path} holds clicks of {self._clicks.dataset}, this dataset is {dataset}: name another file with "
                "--out, or delete it"
            )

    def of(self, role: str, target: Target) -> tuple[list[Click], list[Place]]:
        """The clicks on something in a camera's pictures, and the frames in which it is hidden."""
        return (
            [click for click in self._clicks.clicks if (click.role, click.of) == (role, target)],
            [place for place in self._clicks.skipped if (place.role, place.of) == (role, target)],
        )

    def keep(self, role: str, target: Target, clicks: list[Click], skipped: list[Place]) -> None:
        """Puts these in the place of what was known of the camera, and writes the file."""
        others = [click for click in self._clicks.clicks if (click.role, click.of) != (role, target)]
        hidden = [place for place in self._clicks.skipped if (place.role, place.of) != (role, target)]
        named = any(place.end_effector is not None for place in [*others, *clicks, *hidden, *skipped])
        self._clicks = self._clicks.model_copy(
            update={"schema_version": 2 if named else 1, "clicks": others + clicks, "skipped": hidden + skipped}
        )
        write_json(self.path, self._clicks.model_dump(mode="json"))
