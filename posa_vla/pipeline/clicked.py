"""Cameras of a dataset from clicks in its pictures, on a local page or from a file."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from posa_vla.console import say
from posa_vla.dataset.calibration.clicks_file import Clicks, ClicksKept, read_clicks
from posa_vla.episodes.calibration import Calibration, CameraCalibration, load_calibration
from posa_vla.episodes.embodiment import Embodiment
from posa_vla.episodes.foreign.dataset import open_source
from posa_vla.episodes.store.episode_store import EpisodeStore
from posa_vla.errors import BadInput, did_you_mean
from posa_vla.files import write_text
from posa_vla.pipeline.calibration import Calibrated, CameraFound, require_chain
from posa_vla.pipeline.clicking.filmed import Filmed
from posa_vla.pipeline.clicking.judged import Judged, fixed_camera, middle_of, mounted_camera, tip_on_hand
from posa_vla.pipeline.clicking.server import serve
from posa_vla.pipeline.clicking.task import Task, require_place, spot_of
from posa_vla.pipeline.incoming import at_hand
from posa_vla.pipeline.ingestion import Dataset, open_reader
from posa_vla.workspace import Workspace
from posa_vla.yaml_file import yaml_text


class _Out:
    """The calibration file, which keeps the cameras that it has."""

    def __init__(self, path: Path, embodiment: Embodiment) -> None:
        self.path = path
        roles, ends = list(embodiment.cameras), embodiment.end_effectors
        self._kept = load_calibration(path, roles, ends) if path.exists() else Calibration(cameras={})

    def add(self, role: str, camera: CameraCalibration) -> None:
        self._kept = self._kept.model_copy(update={"cameras": {**self._kept.cameras, role: camera}})
        value = self._kept.model_dump(mode="json", exclude_none=True)
        write_text(self.path, "# Found by `posa data calibrate`.\n" + yaml_text(value))


@contextmanager
def _opened(workspace: Workspace, dataset: Dataset) -> Iterator[tuple[Filmed, Embodiment]]:
    with at_hand(workspace, dataset.location) as folder:
        reader, declaration = open_reader(open_source(folder), dataset, EpisodeStore(workspace.store))
        require_chain(reader, declaration)
        yield Filmed(reader), reader.embodiment


def _require_roles(roles: Sequence[str], embodiment: Embodiment) -> None:
    for role in roles:
        if role not in embodiment.cameras:
            raise BadInput(f"camera {role!r} is none of the dataset's; {did_you_mean(role, embodiment.cameras)}")


def kept_beside(out: Path) -> Path:
    """The file in which clicks are kept while a calibration file is made."""
    return out.with_name(out.stem + ".clicks.json")


def click_cameras(
    workspace: Workspace, dataset: Dataset, out: Path, roles: list[str], on_hand: list[str], *, port: int = 0
) -> Calibrated:
    """Serves the page on which a person clicks, until all cameras are accepted or left out.

    What is clicked is kept in a file beside `out`; the same call goes on with it.

    Args:
        workspace: Whose store knows the dataset's robot.
        dataset: Its embodiment declares a chain of joints.
        out: Calibration file; cameras that it has already are kept.
        roles: Of the cameras.
        on_hand: ROLE, or ROLE=HAND where the robot has several end effectors: cameras on the hand, beside those that
            the embodiment says move.
        port: Of the page; a free one if 0.

    Raises:
        BadInput: The embodiment declares no chain; a role is none of the dataset's; nothing says which hand a camera
            is on; the clicks kept are another dataset's.
    """
    named = {role: hand for role, _, hand in (given.partition("=") for given in on_hand)}
    with _opened(workspace, dataset) as (filmed, embodiment):
        _require_roles([*roles, *named], embodiment)
        file = _Out(out, embodiment)
        moving = {
            role: hand_of(role, named.get(role, ""), embodiment.end_effectors)
            for role in _on_hand(roles, list(named), embodiment)
        }
        kept = ClicksKept(kept_beside(out), _located(dataset.location), list(moving))
        if kept.path.exists():
            say(f"going on with the clicks of {kept.path}")
        tasks = []
        for role in dict.fromkeys([*roles, *named]):
            if role not in filmed.sizes:
                raise BadInput(f"no episode with pictures of camera {role} can be read")
            hand = moving.get(role, 0)
            tasks.append(Task(filmed, role, "tip", role in moving, kept, hand))
            place = Task(filmed, role, "place", True, kept, hand) if role in moving else None
            if place is not None and place.possible:
                tasks.append(place)

        def accepted(task: Task) -> None:
            assert task.result is not None  # only a result can be accepted
            assert task.result.calibration is not None
            file.add(task.role, task.result.calibration)

        serve(filmed, tasks, accepted, port=port)
    cameras = []
    for role in dict.fromkeys(task.role for task in tasks):
        done = [task for task in tasks if task.role == role and task.accepted]
        last = done[-1] if done else next(task for task in tasks if task.role == role)
        cameras.append(_told(role, last.result, bool(done)))
    return _calibrated(filmed, out, cameras)


def calibrate_by_clicks(workspace: Workspace, dataset: Dataset, out: Path, clicks: Path) -> Calibrated:
    """Cameras from a file of clicks.

    Args:
        workspace: Whose store knows the dataset's robot.
        dataset: Its embodiment declares a chain of joints.
        out: Calibration file; cameras that it has already are kept.
        clicks: The file.

    Raises:
        BadInput: See `click_cameras`; a click is in no frame of the dataset.
    """
    given = read_clicks(clicks)
    with _opened(workspace, dataset) as (filmed, embodiment):
        roles = list(dict.fromkeys(click.role for click in given.clicks))
        if not roles:
            raise BadInput(f"{clicks} holds no click")
        _require_roles([*roles, *given.on_hand], embodiment)
        if given.dataset not in (None, _located(dataset.location)):
            say(f"{clicks} holds clicks of {given.dataset}: are they of {dataset.location}, too?")
        file = _Out(out, embodiment)
        for click in given.clicks:
            require_place(filmed, click)
        moving = _on_hand(roles, given.on_hand, embodiment)
        cameras = []
        for role in roles:
            judged = _judged(filmed, role, given, role in moving)
            for said in [*judged.remarks, *judged.reasons, *judged.doubts]:
                say(f"camera {role}: {said}")
            if judged.calibration is not None:
                file.add(role, judged.calibration)
            cameras.append(_told(role, judged, judged.calibration is not None))
    return _calibrated(filmed, out, cameras)


def hand_of(role: str, said: str, end_effectors: Sequence[str]) -> int:
    """Number of the end effector that a camera on the hand is on.

    Args:
        role: Of the camera. Where nobody says it, its name may: `cam_left_wrist` is on `left`.
        said: Name of the end effector; empty where nobody says it.
        end_effectors: Names of several; empty where there is one.

    Raises:
        BadInput: Neither says it, or there is no such end effector.
    """
    if said and said not in end_effectors:
        known = did_you_mean(said, end_effectors) if end_effectors else "the robot has one: leave it out"
        raise BadInput(f"--on-hand {role}={said}: no end effector {said!r}; {known}")
    if said or not end_effectors:
        return end_effectors.index(said) if said else 0
    sounds = [end for end in end_effectors if f"_{end}_" in f"_{re.sub('[^a-z0-9]', '_', role.lower())}_"]
    if len(sounds) != 1:
        raise BadInput(
            f"camera {role} is on a hand, and nothing says whether on {' or '.join(end_effectors)}: add "
            f"--on-hand {role}={end_effectors[0]}"
        )
    say(f"camera {role} is taken to be on {sounds[0]} by its name; if it is not: --on-hand {role}=HAND")
    return end_effectors.index(sounds[0])


def _judged(filmed: Filmed, role: str, given: Clicks, on_hand: bool) -> Judged:
    of = {
        target: {spot_of(filmed, c): (c.u, c.v) for c in given.clicks if (c.role, c.of) == (role, target)}
        for target in ("tip", "place")
    }
    if not on_hand and of["place"]:
        raise BadInput(
            f"clicks on places are for a camera on the hand: if {role} is one, add it to on_hand, else click the tip"
        )
    if not on_hand:
        return fixed_camera(filmed, role, of["tip"])
    hands = sorted({spot.end for clicks in of.values() for spot in clicks})
    if len(hands) > 1:
        names = " and ".join(filmed.ends[hand] for hand in hands)
        raise BadInput(f"camera {role} is on a hand, and has clicks of {names}: expected those of the one it is on")
    if not of["place"]:
        return tip_on_hand(filmed, role, of["tip"], *hands)
    tip = middle_of(list(of["tip"].values())) if of["tip"] else None
    return mounted_camera(filmed, role, of["place"], tip, *hands)


def _on_hand(roles: Sequence[str], on_hand: Sequence[str], embodiment: Embodiment) -> list[str]:
    return [role for role in dict.fromkeys([*roles, *on_hand]) if role in on_hand or embodiment.cameras[role].moving]


def _located(location: str) -> str:
    return location.rstrip("/") if "://" in location else str(Path(location).expanduser().resolve())


def _told(role: str, judged: Judged | None, usable: bool) -> CameraFound:
    if judged is None:
        return CameraFound(role=role, events=0, usable=False, uncertainty=None, stretches=1, reasons=["left out"])
    sure = judged.uncertainty
    return CameraFound(
        role=role,
        events=judged.clicks,
        usable=usable,
        uncertainty=sure if sure is not None and math.isfinite(sure) else None,
        stretches=1,
        reasons=judged.reasons or ([] if usable else ["not accepted"]),
    )


def _calibrated(filmed: Filmed, out: Path, cameras: list[CameraFound]) -> Calibrated:
    found = any(camera.usable for camera in cameras)
    return Calibrated(file=str(out) if found else None, episodes=len(filmed.motions), cameras=cameras)
