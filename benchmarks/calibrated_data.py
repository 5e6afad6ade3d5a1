"""The test bench's demonstrations with each of four calibrations: prepared data that differ in nothing else."""

from __future__ import annotations

import lzma
import shutil
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load, load_file, save, save_file

from posa_vla.console import say
from posa_vla.errors import BadInput, PosaError
from posa_vla.files import new_folder, read_bytes, read_json, write_bytes, write_json
from posa_vla.geometry import compose, invert, project
from posa_vla.params import Params

if TYPE_CHECKING:
    from posa_vla.dataset.calibration.clicks_file import Click, Target
    from posa_vla.dataset.calibration.frames import Candidates, Motion
    from posa_vla.workspace import Workspace

CALIBRATIONS = ("true", "automatic", "clicked", "none")
Cameras = dict[str, dict[str, list[float]]]
# How the robot calls itself, and the shipped arm that it is.
ROBOT, ARM = "so101_follower", "so101"
# Clicks a camera, their noise (px), and how many of them are anywhere in the picture.
CLICKS, CLICK_NOISE, WRONG = 10, 3.0, 1
_CLICK_SEED = 15
SPLITS: tuple[Literal["train", "validation"], ...] = ("train", "validation")
# Of the carried data: what all share, and what differs.
_SHARED, _LABELS = "{}.xz", "{}-labels.safetensors"
_CARRIED = ("manifest.json", "normalisation.json")


@dataclass(frozen=True)
class Place:
    """Folder of the recordings and of everything that is made of them."""

    folder: Path

    @property
    def recordings(self) -> Path:
        """The dataset, as LeRobot writes it: neither poses nor cameras."""
        return self.folder / "recordings"

    @property
    def truth(self) -> Path:
        """The simulator's cameras, which nothing reads but the true calibration and who clicks."""
        return self.folder / "truth.json"

    def calibration(self, name: str) -> Path | None:
        """A calibration's file; `none` has none."""
        return None if name == "none" else self.folder / f"{name}.yaml"

    def workspace(self, name: str) -> Workspace:
        """A workspace of its own for each calibration."""
        from posa_vla.settings import Settings
        from posa_vla.workspace import Workspace

        return Workspace.open(Settings(home=self.folder / "workspaces" / name))

    def dataset(self, name: str, calibration: Path | None = None) -> Any:
        """The recordings as `posa data calibrate` and `posa data ingest` take them."""
        from posa_vla.pipeline.ingestion import Dataset

        declarations = self.folder / "declarations" / name
        return Dataset(str(self.recordings), declarations, calibration=calibration, arm=ARM)


def make_data(place: Place, params: Params, calibrations: Sequence[str], out: Path) -> None:
    """Records, calibrates, ingests and prepares; what a killed call has finished is not done again.

    Args:
        place: Of the recordings and workspaces.
        params: `collect` says how many demonstrations of which size.
        calibrations: Which of `CALIBRATIONS`.
        out: Folder of prepared data that can be carried (see `unpack`).
    """
    if not place.truth.exists():
        _record(place, params)
    makers: dict[str, Callable[[Place, Path], None]] = {"true": _true, "automatic": _automatic, "clicked": _clicked}
    prepared = {}
    for name in calibrations:
        file = place.calibration(name)
        if file is not None and not file.exists():
            say(f"{name}: calibrate")
            makers[name](place, file)
        prepared[name] = _ingest(place, name, params)
    if not out.exists():
        pack(prepared, out)


def _record(place: Place, params: Params) -> None:
    from posa_vla.sim.environment import make_environment
    from posa_vla.sim.recordings import record

    collect, target = params.collect, params.chosen
    shutil.rmtree(place.recordings, ignore_errors=True)
    world = make_environment(
        target.embodiment,
        target.task,
        image_size=collect.image_size,
        objects=collect.objects,
        max_steps=params.evaluate.max_steps,
    )
    with closing(world):
        seeds = range(collect.seed, collect.seed + collect.episodes)
        episode = record(place.recordings, world, seeds, noise=collect.noise, robot=ROBOT)[0]
    # A mount is told from what the shipped arm's kinematics call the end effector, which is not the bench's own frame.
    hand = _first_poses(place)
    cameras: Cameras = {}
    for role, camera in episode.cameras.items():
        assert camera.intrinsics is not None
        assert camera.pose is not None
        moving = world.embodiment.cameras[role].moving
        pose = compose(invert(hand), camera.pose[:1])[0] if moving else camera.pose[0]
        cameras[role] = {"intrinsics": camera.intrinsics[0].tolist(), "pose": pose.tolist(), "on_hand": [float(moving)]}
        height, width = camera.images.shape[1:3]
        cameras[role]["size"] = [width, height]
    write_json(place.truth, cameras)


def _first_poses(place: Place) -> NDArray[np.float64]:
    """Pose of the end effector in the first frame of the first recording, (1, 7), as an ingestion computes it."""
    from posa_vla.episodes.foreign.dataset import open_source
    from posa_vla.episodes.store.episode_store import EpisodeStore
    from posa_vla.pipeline.ingestion import open_reader

    store = EpisodeStore(place.workspace("true").store)
    reader, _ = open_reader(open_source(place.recordings), place.dataset("true"), store)
    first = reader.episode(reader.source.episodes()[0])
    assert first.end_effector is not None  # the arm has kinematics
    return first.end_effector[:1]


def _true(place: Place, file: Path) -> None:
    from posa_vla.episodes.calibration import Calibration, CameraCalibration, Intrinsics, Pose
    from posa_vla.files import write_text
    from posa_vla.yaml_file import yaml_text

    cameras = {}
    truth: Cameras = read_json(place.truth)
    for role, known in truth.items():
        (fx, fy, cx, cy), (width, height) = known["intrinsics"], (round(side) for side in known["size"])
        x, y, z, w, i, j, k = known["pose"]
        pose = Pose(position=(x, y, z), quaternion=(w, i, j, k))
        cameras[role] = CameraCalibration(
            intrinsics=Intrinsics(fx=fx, fy=fy, cx=cx, cy=cy, width=width, height=height),
            **{"end_effector_from_camera" if known["on_hand"][0] else "base_from_camera": pose},
        )
    write_text(file, yaml_text(Calibration(cameras=cameras).model_dump(mode="json", exclude_none=True)))


def _automatic(place: Place, file: Path) -> None:
    from posa_vla.pipeline.calibration import calibrate_dataset

    found = calibrate_dataset(place.workspace("automatic"), place.dataset("automatic"), file)
    _require_file("automatic", file, found)


def _clicked(place: Place, file: Path) -> None:
    from posa_vla.dataset.calibration.clicks_file import Clicks
    from posa_vla.dataset.calibration.frames import places, tips
    from posa_vla.episodes.foreign.dataset import open_source
    from posa_vla.episodes.store.episode_store import EpisodeStore
    from posa_vla.pipeline.clicked import calibrate_by_clicks
    from posa_vla.pipeline.clicking.filmed import Filmed
    from posa_vla.pipeline.ingestion import open_reader

    workspace, dataset = place.workspace("clicked"), place.dataset("clicked")
    reader, _ = open_reader(open_source(place.recordings), dataset, EpisodeStore(workspace.store))
    motions = Filmed(reader).motions
    truth: Cameras = read_json(place.truth)
    rng = np.random.default_rng(_CLICK_SEED)
    clicks: list[Click] = []
    for role, known in truth.items():
        if known["on_hand"][0]:
            clicks += _person(role, "place", known, places(motions), motions, rng)
            clicks += _person(role, "tip", known, tips(motions), motions, rng)[1:2]
        else:
            clicks += _person(role, "tip", known, tips(motions), motions, rng)
    on_hand = [role for role, known in truth.items() if known["on_hand"][0]]
    given = file.with_suffix(".clicks.json")
    write_json(given, Clicks(on_hand=on_hand, clicks=clicks).model_dump(mode="json"))
    _require_file("clicked", file, calibrate_by_clicks(workspace, dataset, file, given))


def _person(
    role: str,
    of: Target,
    known: dict[str, list[float]],
    candidates: Candidates,
    motions: dict[int, Motion],
    rng: np.random.Generator,
) -> list[Click]:
    """Clicks as of a person who is shown the frames that the page shows; the first ones are anywhere."""
    from posa_vla.dataset.calibration.clicks_file import Click

    width, height = (round(side) for side in known["size"])
    on_hand, clicks = bool(known["on_hand"][0]), list[Click]()
    for spot in candidates.spread(10 * CLICKS):
        episode, frame, motion = spot.episode, spot.frame, motions[spot.episode]
        if of == "place":
            point = motion.place_seen_from(np.array([frame]), spot.end)
        else:
            point = np.zeros((1, 3)) if on_hand else motion.poses[frame : frame + 1, spot.end, :3]
        seen = project(point, np.array(known["intrinsics"]), np.array(known["pose"]), width, height)
        if not seen.visible[0]:
            continue
        pixel = seen.pixels[0] + rng.normal(0, CLICK_NOISE, 2)
        if len(clicks) < WRONG:
            pixel = rng.uniform([0, 0], [width, height])
        u, v = (float(value) for value in np.clip(pixel, 0, [width - 1e-3, height - 1e-3]))
        clicks.append(Click(role=role, episode=episode, frame=frame, of=of, u=u, v=v))
        if len(clicks) == CLICKS:
            break
    return clicks


def _require_file(name: str, file: Path, found: Any) -> None:
    write_json(file.with_suffix(".found.json"), found.model_dump(mode="json"))
    if found.file is None:
        raise PosaError(f"{name}: no camera was found: {[camera.reasons for camera in found.cameras]}")


def _ingest(place: Place, name: str, params: Params) -> Path:
    """What `posa data ingest` does with a dataset, without the data version, which takes git and DVC."""
    from posa_vla.dataset.exchange.ingest import ingest
    from posa_vla.dataset.shards.manifest import read_manifest
    from posa_vla.dataset.shards.prepare import prepare
    from posa_vla.dataset.validation.validate import validate
    from posa_vla.episodes.foreign.dataset import open_source
    from posa_vla.episodes.store.episode_store import EpisodeStore
    from posa_vla.pipeline.ingestion import open_reader

    workspace = place.workspace(name)
    prepared = workspace.data / "prepared"
    if not prepared.exists():
        say(f"{name}: ingest")
        store = EpisodeStore(workspace.store)
        source = open_source(place.recordings)
        reader, _ = open_reader(source, place.dataset(name, place.calibration(name)), store)
        ingest(store, reader)
        report = validate(
            workspace.store,
            params.validation,
            declared={reader.embodiment.id: reader.embodiment},
            validation_fraction=params.prepare.validation_fraction,
            cache=workspace.validated,
        )
        prepare(workspace.store, report, reader.embodiment, params.prepare, prepared)
    manifest = read_manifest(prepared)
    episodes = sum(count.episodes for count in manifest.splits.values())
    say(f"{name}: {episodes} episodes, {manifest.task_share:.1%} of the frames with a task label")
    return prepared


def _is_label(name: str) -> bool:
    return name.startswith("anchor_")


def _changed(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Each picture minus the one before, modulo 256."""
    return np.concatenate([images[:1], images[1:] - images[:-1]])


def pack(prepared: dict[str, Path], out: Path) -> None:
    """Writes prepared data of several calibrations as a folder that can be carried: what they share once, compressed.

    Args:
        prepared: Calibration -> its prepared data.
        out: Folder that appears whole.

    Raises:
        PosaError: They differ in more than the labels.
    """
    first, *others = prepared
    with new_folder(out) as folder:
        for name in prepared:
            (folder / name).mkdir()
            for file in _CARRIED:
                shutil.copyfile(prepared[name] / file, folder / name / file)
        for split in SPLITS:
            tensors = load_file(prepared[first] / f"{split}.safetensors")
            for name in others:
                theirs = load_file(prepared[name] / f"{split}.safetensors")
                wrong = [key for key in tensors if not _is_label(key) and not np.array_equal(tensors[key], theirs[key])]
                if wrong:
                    raise PosaError(f"{split} of {name} differs from {first} in {wrong}, expected in labels alone")
                _write_labels(folder / name, split, theirs)
            _write_labels(folder / first, split, tensors)
            shared = {key: rows for key, rows in tensors.items() if not _is_label(key)}
            shared = {key: _changed(rows) if key.startswith("images.") else rows for key, rows in shared.items()}
            write_bytes(folder / _SHARED.format(split), lzma.compress(save(shared), preset=6))


def _write_labels(folder: Path, split: str, tensors: dict[str, NDArray[Any]]) -> None:
    save_file(
        {key: rows for key, rows in tensors.items() if _is_label(key)},
        folder / _LABELS.format(split),
    )


def labels_of(data: Path, name: str, split: Literal["train", "validation"]) -> dict[str, NDArray[Any]]:
    """The labels of a calibration in carried data: `anchor_points.ROLE` and `anchor_valid.ROLE`."""
    labels: dict[str, NDArray[Any]] = load_file(data / name / _LABELS.format(split))
    return labels


def unpack(data: Path, name: str, out: Path) -> Path:
    """Makes prepared data of what was carried.

    Args:
        data: Written by `pack`.
        name: Of the calibration.
        out: Folder that appears whole, unless it is there.

    Returns:
        `out`.

    Raises:
        BadInput: `data` has no such calibration.
    """
    if out.exists():
        return out
    if not (data / name).is_dir():
        raise BadInput(
            f"{data} holds no data of calibration {name}: run the stage `data` first, or name it with --data"
        )
    with new_folder(out) as folder:
        for file in _CARRIED:
            shutil.copyfile(data / name / file, folder / file)
        for split in SPLITS:
            tensors = load(lzma.decompress(read_bytes(data / _SHARED.format(split))))
            for key in tensors:
                if key.startswith("images."):
                    tensors[key] = np.cumsum(tensors[key], axis=0, dtype=np.uint8)
            save_file({**tensors, **load_file(data / name / _LABELS.format(split))}, folder / f"{split}.safetensors")
    return out
