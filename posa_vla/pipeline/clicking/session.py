"""What a person does on the page: tasks one after the other, and what the page is told of them."""

from __future__ import annotations

import io
import math
import threading
from collections.abc import Callable, Sequence
from typing import Any, Literal

from PIL import Image
from pydantic import Field

from posa_vla.dataset.calibration.frames import Spot
from posa_vla.errors import BadInput
from posa_vla.pipeline.clicking.filmed import Filmed, Frame
from posa_vla.pipeline.clicking.task import Task
from posa_vla.schema import Closed

# Quality of the pictures' JPEG: the page shows single pixels.
_QUALITY = 95


class Action(Closed):
    """What the page asks for.

    Attributes:
        step: Number of the task; one that is not the present one comes from an old page, and is refused.
        do: What to do.
        number: Of the frame, of `click` and `skip`.
        u: Of `click`, pixels.
        v: Likewise.
    """

    step: int
    do: Literal["click", "skip", "undo", "judge", "again", "more", "accept", "leave"]
    number: int = Field(default=0, ge=0)
    u: float = 0.0
    v: float = 0.0


class Clicking:
    """Tasks one after the other, and what the page is told of them."""

    def __init__(self, filmed: Filmed, tasks: Sequence[Task], accepted: Callable[[Task], None]) -> None:
        self._filmed, self._tasks, self._accepted = filmed, list(tasks), accepted
        self._lock = threading.Lock()
        self.over = threading.Event()
        self._begin()

    @property
    def _step(self) -> int:
        return next((number for number, task in enumerate(self._tasks) if not task.over), len(self._tasks))

    def _begin(self) -> None:
        """Judges at once what was clicked to the end before."""
        if self._step < len(self._tasks):
            task = self._tasks[self._step]
            if task.frames and set(task.frames) <= set(task.clicks):
                task.judge()

    def state(self) -> dict[str, Any]:
        """What the page shows."""
        with self._lock:
            return self._state()

    def do(self, action: Action) -> dict[str, Any]:
        """Does what a person asks for, and returns what the page shows then.

        Raises:
            BadInput: It cannot be done.
        """
        with self._lock:
            step = self._step
            if action.step != step or step == len(self._tasks):
                raise BadInput("the page is older than what was done since: load it anew")
            task, at = self._tasks[step], action.number
            if action.do == "click":
                task.click(action.number, (action.u, action.v))
                following = [number for number, frame in enumerate(task.frames) if frame not in task.clicks]
                at = next((number for number in following if number > at), following[0] if following else at)
                if not following:
                    task.judge()
            elif action.do == "skip":
                task.skip(action.number)
                at = min(at, max(len(task.frames) - 1, 0))
            elif action.do == "undo":
                at = task.undo()
            elif action.do == "judge":
                task.judge()
            elif action.do == "again":
                rejected = task.result.rejected if task.result is not None else []
                task.result = None
                wanted = [n for n, frame in enumerate(task.frames) if frame in rejected or frame not in task.clicks]
                at = wanted[0] if wanted else 0
            elif action.do == "more":
                at = len(task.frames)
                task.more()
                at = min(at, len(task.frames) - 1)
            elif action.do == "accept":
                if task.result is None or task.result.calibration is None:
                    raise BadInput("there is no result to accept")
                self._accepted(task)
                task.accepted = True
                self._begin()
            else:
                task.left_out = True
                self._begin()
            return {**self._state(), "at": at}

    def picture(self, step: int, frame: Frame) -> bytes:
        """A picture as JPEG.

        Raises:
            BadInput: There is none.
        """
        with self._lock:
            if not 0 <= step < len(self._tasks) or frame[0] not in self._filmed.motions:
                raise BadInput("no such picture")
            if not 0 <= frame[1] < len(self._filmed.motions[frame[0]].poses):
                raise BadInput("no such picture")
            image = self._filmed.picture(self._tasks[step].role, frame)
        out = io.BytesIO()
        Image.fromarray(image).save(out, format="JPEG", quality=_QUALITY, subsampling=0)
        return out.getvalue()

    def _state(self) -> dict[str, Any]:
        step = self._step
        state: dict[str, Any] = {"step": step, "steps": len(self._tasks), "at": None}
        if step == len(self._tasks):
            done = [{"role": task.role, "target": task.target, "accepted": task.accepted} for task in self._tasks]
            return {**state, "phase": "done", "tasks": done}
        task = self._tasks[step]
        width, height = self._filmed.sizes[task.role]
        frames = [self._clicked(task, spot) for spot in task.frames]
        state |= {
            "phase": "click" if task.result is None else "judge",
            "role": task.role,
            "target": task.target,
            "on_hand": task.on_hand,
            "width": width,
            "height": height,
            "frames": frames,
            "skipped": len(task.skipped),
        }
        if task.target == "place":
            state["tip"] = task.tip()
        if task.result is not None:
            result = task.result
            others = [{**self._told(spot), "seen": result.sight(spot)} for spot in task.others()]
            state["result"] = {
                "accepted": result.calibration is not None,
                "reasons": result.reasons,
                "remarks": result.remarks,
                "doubts": result.doubts,
                "error": result.error,
                "uncertainty": _finite(result.uncertainty),
                "others": others,
            }
        return state

    def _told(self, spot: Spot) -> dict[str, Any]:
        """A gripper in a frame: the page's name of the picture, and the end effector's where there are several."""
        return {"frame": (spot.episode, spot.frame), "end": spot.end, "end_effector": self._filmed.name(spot.end)}

    def _clicked(self, task: Task, spot: Spot) -> dict[str, Any]:
        told: dict[str, Any] = {**self._told(spot), "click": task.clicks.get(spot)}
        if task.target == "place":
            told["later"] = task.later(spot)
        if task.result is not None:
            told["seen"] = task.result.sight(spot)
            told["miss"] = _finite(task.result.misses.get(spot))
            told["rejected"] = spot in task.result.rejected
        return told

    def end_if_over(self) -> None:
        """Lets the command end; the page has been told."""
        if self._step == len(self._tasks):
            self.over.set()


def _finite(value: float | None) -> float | None:
    """A number that JSON has, or None."""
    return value if value is not None and math.isfinite(value) else None
