"""One thing to click in one camera's pictures: which frames, what was clicked, and what comes of it."""

from __future__ import annotations

from typing import Any

from posa_vla.dataset.calibration.clicks_file import Click, ClicksKept, Place, Target
from posa_vla.dataset.calibration.frames import Candidates, Spot, places, tips
from posa_vla.errors import BadInput, did_you_mean
from posa_vla.pipeline.clicking.filmed import Filmed, Frame
from posa_vla.pipeline.clicking.judged import Judged, Pixel, fixed_camera, middle_of, mounted_camera, tip_on_hand

# Frames that are asked for, how many more at a time, and how many others a result is shown on.
_FRAMES, _MORE, _SHOWN = 10, 5, 8


class Task:
    """The clicks on the grippers' tips, or on the places where one closes later, in one camera's pictures.

    Every change is in the file of clicks before the method returns.

    Attributes:
        role: Of the camera.
        target: What is clicked.
        on_hand: Whether the camera is on a hand; then only the gripper of that hand is clicked.
        hand: Number of the end effector that it is on; 0 where it is on none.
        frames: Those to be clicked in, in order, each for one gripper.
        clicks: Where -> pixel, in the order in which they were made.
        skipped: Those in which it is hidden.
        result: What the clicks come to; None while they are being made.
        accepted: Whether a person took the result.
        left_out: Whether a person went on without it.
    """

    def __init__(
        self, filmed: Filmed, role: str, target: Target, on_hand: bool, kept: ClicksKept, hand: int = 0
    ) -> None:
        """Goes on with the clicks that are kept.

        Raises:
            BadInput: One of them is in a frame that there is not, or beside the picture, or on the gripper of a hand
                that the camera is not on.
        """
        self.role, self.target, self.on_hand, self.hand = role, target, on_hand, hand
        self._filmed, self._kept = filmed, kept
        self._candidates: Candidates = (
            places(filmed.motions, hand) if target == "place" else tips(filmed.motions, hand if on_hand else None)
        )
        self._count = 1 if on_hand and target == "tip" else _FRAMES
        clicks, skipped = kept.of(role, target)
        for place in [*clicks, *skipped]:
            require_place(filmed, place)
            if on_hand and spot_of(filmed, place).end != hand:
                raise BadInput(
                    f"{kept.path} holds clicks of camera {role} on the hand {place.end_effector}, and now it is on "
                    f"{filmed.name(hand)}: name another file with --out, or take these out of the file"
                )
        self.clicks: dict[Spot, Pixel] = {spot_of(filmed, c): (c.u, c.v) for c in clicks}
        self.skipped: list[Spot] = [spot_of(filmed, place) for place in skipped]
        self.frames: list[Spot] = list(self.clicks)
        self._done: list[tuple[Spot, Pixel | None, Spot | None]] = [(spot, None, None) for spot in self.clicks]
        self._fill(self._count)
        self.result: Judged | None = None
        self.accepted = self.left_out = False

    @property
    def over(self) -> bool:
        """Whether nothing is left to do."""
        return self.accepted or self.left_out

    @property
    def possible(self) -> bool:
        """Whether there is any frame to click in."""
        return bool(self.frames)

    def _fill(self, count: int) -> None:
        more = count - len(self.frames)
        if more > 0:
            new = self._candidates.spread(more, [*self.frames, *self.skipped])
            # One gripper after the other: who has to look for another one in each picture takes the wrong one.
            self.frames += sorted(new, key=lambda spot: spot.end)

    def _keep(self) -> None:
        clicks = [Click(**self._place(spot), u=u, v=v) for spot, (u, v) in self.clicks.items()]
        skipped = [Place(**self._place(spot)) for spot in self.skipped]
        self._kept.keep(self.role, self.target, clicks, skipped)

    def _place(self, spot: Spot) -> dict[str, Any]:
        return {
            "role": self.role,
            "of": self.target,
            "episode": spot.episode,
            "frame": spot.frame,
            "end_effector": self._filmed.name(spot.end),
        }

    def click(self, number: int, pixel: Pixel) -> None:
        """Takes a click in one of the frames, or moves it there.

        Raises:
            BadInput: There is no such frame, or the click is beside the picture.
        """
        frame = self._frame(number)
        width, height = self._filmed.sizes[self.role]
        require_inside(pixel, width, height, self.role)
        self._done.append((frame, self.clicks.get(frame), None))
        self.clicks[frame] = pixel
        self.result = None
        self._keep()

    def skip(self, number: int) -> None:
        """Takes another frame in the place of one in which nothing can be clicked."""
        frame = self._frame(number)
        self.skipped.append(frame)
        before = self.clicks.pop(frame, None)
        new = self._candidates.spread(1, [*self.frames, *self.skipped])
        self.frames[number : number + 1] = new
        self._done.append((frame, before, new[0] if new else frame))
        self.result = None
        self._keep()

    def undo(self) -> int:
        """Takes the last click or skip back; returns the number of its frame."""
        self.result = None
        if not self._done:
            return 0
        frame, before, instead = self._done.pop()
        if instead is not None:
            self.skipped.remove(frame)
            number = self.frames.index(instead) if instead in self.frames else len(self.frames)
            self.clicks.pop(instead, None)
            self.frames[number : number + 1] = [frame]
        if before is not None:
            self.clicks[frame] = before
        else:
            self.clicks.pop(frame, None)
        self._keep()
        return self.frames.index(frame)

    def more(self) -> None:
        """Asks for clicks in some more frames."""
        self.result = None
        self._fill(len(self.frames) + _MORE)

    def judge(self) -> Judged:
        """What the clicks come to."""
        if self.target == "place":
            self.result = mounted_camera(self._filmed, self.role, self.clicks, self.tip(), self.hand)
        elif self.on_hand:
            self.result = tip_on_hand(self._filmed, self.role, self.clicks, self.hand)
        else:
            self.result = fixed_camera(self._filmed, self.role, self.clicks)
        return self.result

    def others(self) -> list[Spot]:
        """Frames that were not clicked in, to judge a result by eye; those first in which the point is in view."""
        if self.on_hand and self.target == "tip":
            return self._candidates.spread(_SHOWN, list(self.clicks))
        shown = self._candidates.spread(3 * _SHOWN, list(self.clicks))
        sight = self.result.sight if self.result is not None else lambda _: None
        return sorted(shown, key=lambda frame: sight(frame) is None)[:_SHOWN]

    def tip(self) -> Pixel | None:
        """Where a camera on the hand sees the tip; None where nobody clicked it."""
        clicks = self._kept.of(self.role, "tip")[0]
        return middle_of([(click.u, click.v) for click in clicks]) if clicks else None

    def later(self, spot: Spot) -> Frame:
        """The frame in which the gripper closes or opens at the place that is to be clicked."""
        events = self._filmed.motions[spot.episode].events_of(spot.end)
        return spot.episode, int(events[int((events < spot.frame).sum())])

    def _frame(self, number: int) -> Spot:
        if not 0 <= number < len(self.frames):
            raise BadInput(f"frame {number} is none of the {len(self.frames)} to click in")
        return self.frames[number]


def spot_of(filmed: Filmed, place: Place) -> Spot:
    """The gripper and frame that a line of a file of clicks is of.

    Raises:
        BadInput: It does not say which of several end effectors it is of, or names one that there is not.
    """
    ends, name = filmed.ends, place.end_effector
    where = f"clicks: camera {place.role}, episode {place.episode}, frame {place.frame}"
    if name is None:
        if ends:
            raise BadInput(f"{where}: nothing says whose gripper it is: add end_effector, one of {', '.join(ends)}")
        return Spot(place.episode, place.frame)
    if not ends:
        raise BadInput(f"{where} has end_effector {name!r} of a robot that has one, expected none: leave it out")
    if name not in ends:
        raise BadInput(f"{where}: no end effector {name!r}; {did_you_mean(name, ends)}")
    return Spot(place.episode, place.frame, ends.index(name))


def require_inside(pixel: Pixel, width: int, height: int, role: str) -> None:
    """Stops where a click is beside the picture.

    Raises:
        BadInput: It is.
    """
    u, v = pixel
    if not (0 <= u <= width and 0 <= v <= height):
        raise BadInput(f"click ({u:g}, {v:g}) is beside the picture of camera {role}, which is {width} x {height}")


def require_place(filmed: Filmed, place: Place) -> None:
    """Stops where clicks name what the dataset has not.

    Raises:
        BadInput: There is no such episode, frame or end effector, or no event of the gripper after it, or the click is
            beside the picture.
    """
    end = spot_of(filmed, place).end
    motion = filmed.motions.get(place.episode)
    known = sorted(filmed.motions)
    if motion is None:
        span = f"{known[0]} to {known[-1]}" if known else "none that can be read"
        raise BadInput(f"clicks: there is no episode {place.episode}; the dataset's are {span}")
    if place.frame >= len(motion.poses):
        raise BadInput(f"clicks: episode {place.episode} has {len(motion.poses)} frames, there is none {place.frame}")
    if place.of == "place" and not (motion.events_of(end) >= place.frame).any():
        whose = "the gripper" if place.end_effector is None else f"the gripper {place.end_effector}"
        raise BadInput(
            f"clicks: in episode {place.episode} {whose} neither closes nor opens after frame {place.frame}: "
            "there is no place to click"
        )
    if isinstance(place, Click):
        width, height = filmed.sizes[place.role]
        require_inside((place.u, place.v), width, height, place.role)
