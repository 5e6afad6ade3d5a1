"""Finds a dataset's cameras from the dataset itself, and writes them down as a calibration file."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from posa_vla.console import progress, say
from posa_vla.dataset.calibration.automatic import Stretch, exchanged, find_camera, moved_part
from posa_vla.dataset.calibration.events import NONE_LOST, Change, Lost, gripper_changes
from posa_vla.dataset.calibration.fit import CameraFit
from posa_vla.episodes.calibration import Calibration, CameraCalibration, Found, Intrinsics, Later, Pose
from posa_vla.episodes.foreign.arms import shipped_arms
from posa_vla.episodes.foreign.dataset import open_source
from posa_vla.episodes.foreign.fit import recordings_of
from posa_vla.episodes.foreign.reader import SourceReader
from posa_vla.episodes.outside_files import MALFORMED
from posa_vla.episodes.store.episode_store import EpisodeStore
from posa_vla.errors import BadInput
from posa_vla.files import write_text
from posa_vla.pipeline.incoming import at_hand
from posa_vla.pipeline.ingestion import Dataset, open_reader
from posa_vla.schema import Closed
from posa_vla.workspace import Workspace
from posa_vla.yaml_file import yaml_text


class CameraFound(Closed):
    """What was found of one camera.

    Attributes:
        role: Of the camera.
        events: Events of the gripper in which its picture changed.
        usable: Whether it is in the file, for most of the events at least.
        uncertainty: 90th percentile of a label's standard deviation, share of the picture's longer side.
        stretches: How often it stood somewhere else.
        reasons: Why it is not in the file, or what is to be done.
    """

    role: str
    events: int
    usable: bool
    uncertainty: float | None
    stretches: int
    reasons: list[str]


class Calibrated(Closed):
    """The document of `posa data calibrate --json`.

    Attributes:
        file: The calibration file; None where no camera was found.
        episodes: Episodes that were looked at.
        cameras: What was found of each camera.
    """

    file: str | None
    episodes: int
    cameras: list[CameraFound]


def calibrate_dataset(workspace: Workspace, dataset: Dataset, out: Path) -> Calibrated:
    """Finds the cameras of a dataset that is not yet in the store.

    Args:
        workspace: Whose store knows the dataset's robot.
        dataset: Its embodiment declares a chain of joints and a gripper.
        out: Calibration file to write.

    Raises:
        BadInput: The embodiment declares no chain, or recorded joints do not fit it; `out` exists.
    """
    if out.exists():
        raise BadInput(f"{out} exists: name another file with --out, or delete it")
    with at_hand(workspace, dataset.location) as folder:
        reader, declaration = open_reader(open_source(folder), dataset, EpisodeStore(workspace.store))
        require_chain(reader, declaration)
        changes, lost, reach, shapes = _look(reader)
        recordings = recordings_of(reader)
    found: dict[str, list[Stretch]] = {}
    for role, seen in changes.items():
        height, width = shapes[role]
        offset = moved_part(reader.kinematics, seen)
        found[role] = find_camera(seen, reach, width=width, height=height, offset=offset, lost=lost[role])
    for role, reason in exchanged(found, reach).items():
        found[role] = [replace(stretch, reasons=[reason, *stretch.reasons]) for stretch in found[role]]
    for role, stretches in found.items():
        for reason in _reasons(stretches):
            say(f"camera {role}: {reason}")
    cameras = {role: standing(stretches) for role, stretches in found.items() if _usable(stretches)}
    if cameras:
        calibration = Calibration(cameras=cameras)
        if calibration.moves:
            calibration = calibration.model_copy(update={"episodes": recordings})
        value = calibration.model_dump(mode="json", exclude_none=True)
        write_text(out, "# Found by `posa data calibrate` from the gripper's events.\n" + yaml_text(value))
    return Calibrated(
        file=str(out) if cameras else None,
        episodes=len({number for seen in changes.values() for number, _ in seen}),
        cameras=[_told(role, stretches) for role, stretches in found.items()],
    )


def require_chain(reader: SourceReader, declaration: Path) -> None:
    """Stops where nobody knows where the gripper is.

    Raises:
        BadInput: The embodiment declares no chain of joints.
    """
    embodiment = reader.embodiment
    if embodiment.kinematics is None:
        add = (
            f"add the section to {declaration}"
            if declaration.is_file()
            else "write an embodiment file with the section"
        )
        raise BadInput(
            f"embodiment {embodiment.id} declares no `kinematics`, so that nobody knows where its gripper is: name a "
            f"shipped arm ({', '.join(f'--arm {name}' for name in shipped_arms())}), or {add} (docs/your-recordings.md)"
        )


def _look(
    reader: SourceReader,
) -> tuple[dict[str, list[tuple[int, Change]]], dict[str, Lost], np.ndarray, dict[str, tuple[int, int]]]:
    """Role -> changes and lost events, where the end-effector goes (M, 3), and role -> height and width."""
    changes: dict[str, list[tuple[int, Change]]] = {role: [] for role in reader.embodiment.cameras}
    lost = dict.fromkeys(changes, NONE_LOST)
    reach: list[np.ndarray] = []
    shapes: dict[str, tuple[int, int]] = {}
    places = list(reader.source.episodes())
    with progress("look", len(places), unit="episode") as advance:
        for where in places:
            try:
                episode = reader.episode(where)
                for role, camera in episode.cameras.items():
                    shapes[role] = camera.images.shape[1:3]
                    seen, unseen = gripper_changes(episode, reader.embodiment, role)
                    changes[role] += [(where.number, change) for change in seen]
                    lost[role] += unseen
            except (BadInput, *MALFORMED) as error:
                say(f"episode {where.number} is left out: {error}")
                continue
            finally:
                advance(1)
            if episode.poses is not None:
                reach.append(episode.poses[:: max(1, len(episode) // 20), :, :3].reshape(-1, 3))
    return changes, lost, np.concatenate(reach) if reach else np.zeros((0, 3)), shapes


def _usable(stretches: list[Stretch]) -> bool:
    """Whether most of the events say where the camera is: at the others nothing is labelled."""
    return 2 * sum(s.events for s in stretches if s.usable) > sum(s.events for s in stretches)


def standing(stretches: list[Stretch]) -> CameraCalibration:
    """A camera that stands as the calibration file declares it; where it is not known is left open.

    Args:
        stretches: In order; at least one of them is usable.
    """
    known = next(stretch for stretch in stretches if stretch.usable)
    first, *rest = (
        _place(stretch) if stretch.usable else {"intrinsics": _place(known)["intrinsics"]} for stretch in stretches
    )
    later = [Later(from_episode=s.first, **place) for s, place in zip(stretches[1:], rest, strict=True)]
    return CameraCalibration(**first, later=later)


def _place(stretch: Stretch) -> dict[str, Any]:
    assert stretch.camera is not None  # it is usable
    assert stretch.uncertainty is not None
    intrinsics, pose, found = declared(stretch.camera, stretch.uncertainty, "automatic")
    return {"intrinsics": intrinsics, "base_from_camera": pose, "found": found}


def declared(
    camera: CameraFit, uncertainty: float, how: Literal["automatic", "clicked"]
) -> tuple[Intrinsics, Pose, Found]:
    """A camera as the calibration file declares it.

    Args:
        camera: What was found.
        uncertainty: See `Found`.
        how: Likewise.
    """
    focal, _, across, down = (float(value) for value in camera.intrinsics)
    x, y, z, *quaternion = (float(value) for value in camera.pose)
    w, i, j, k = quaternion
    return (
        Intrinsics(fx=focal, fy=focal, cx=across, cy=down, width=camera.width, height=camera.height),
        Pose(position=(x, y, z), quaternion=(w, i, j, k)),
        Found(
            how=how,
            events=len(camera.inliers),
            used=int(camera.inliers.sum()),
            sigma=camera.sigma,
            uncertainty=uncertainty,
            covariance=camera.own_covariance.tolist(),
        ),
    )


def _told(role: str, stretches: list[Stretch]) -> CameraFound:
    told = [stretch for stretch in stretches if stretch.usable] if _usable(stretches) else stretches
    known = [stretch.uncertainty for stretch in told if stretch.uncertainty is not None]
    # JSON has no infinity; the reasons say that nothing is certain.
    sure = [uncertainty for uncertainty in known if math.isfinite(uncertainty)]
    return CameraFound(
        role=role,
        events=sum(stretch.events for stretch in stretches),
        usable=_usable(stretches),
        uncertainty=max(sure) if sure else None,
        stretches=len(stretches),
        reasons=_reasons(stretches),
    )


def _reasons(stretches: list[Stretch]) -> list[str]:
    """Each once, with the episodes that it is true of where it is not of all."""
    said = dict.fromkeys(reason for stretch in stretches for reason in stretch.reasons)
    reasons = []
    for reason in said:
        of = [stretch for stretch in stretches if reason in stretch.reasons]
        places = ", ".join(f"{stretch.first} to {stretch.last}" for stretch in of)
        masked = "; nothing is labelled there" if _usable(stretches) else ""
        reasons.append(reason if len(of) == len(stretches) else f"episodes {places}: {reason}{masked}")
    return reasons
