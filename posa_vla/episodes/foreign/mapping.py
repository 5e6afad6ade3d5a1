"""What each feature of a foreign dataset is: its name, the embodiment file or `--map` says so, nothing is guessed."""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from posa_vla.episodes.embodiment import UNSTATED, Embodiment
from posa_vla.episodes.foreign.bad_episode import BadEpisode
from posa_vla.episodes.foreign.channels import part_names
from posa_vla.episodes.foreign.columns import vector
from posa_vla.episodes.foreign.dataset import SourceDataset
from posa_vla.episodes.foreign.depth import Depth, depth_features
from posa_vla.episodes.foreign.prompts import WORD_COLUMNS
from posa_vla.episodes.foreign.proposals import Proposal, propose_cameras, propose_parts, short_name
from posa_vla.episodes.lerobot.layout import CAMERA, IMAGES, KNOWN, NUMBERS, PARTS, WIDER
from posa_vla.episodes.outside_files import MALFORMED, file_inside, read_table
from posa_vla.errors import BadInput, did_you_mean
from posa_vla.geometry import COVARIANCE_SIZE
from posa_vla.schema import parse

_NEEDED = ("state", "action")
# A number of the state or action may be one of these as well; every other feature is one thing.
_BESIDES = {"end_effector", "gripper"}
# Tables that are looked at until one has as many channels as are declared.
_LOOKED_AT = 5


@dataclass(frozen=True)
class FeatureMap:
    """Features of a dataset by what they are.

    Attributes:
        parts: `state`, `action` and, where there are such, `end_effector` and `gripper` -> the features whose channels
            make it, in this order.
        cameras: Role -> feature.
        extra: Other numeric features; they are kept under their own names.
        dropped: Features that cannot be kept (text, numbers under a name that means something else here, ...).
        calibration: Role -> what was recorded of its calibration (the vectors of `CameraTrack`) -> feature.
        depth: Features that are left out because they are depth -> why they are taken for it.
    """

    parts: dict[str, tuple[str, ...]]
    cameras: dict[str, str]
    extra: list[str]
    dropped: list[str]
    calibration: dict[str, dict[str, str]]
    depth: dict[str, str] = field(default_factory=dict)


def parse_map(settings: list[str]) -> dict[str, list[str]]:
    """`FEATURE=PART-OR-ROLE` or `PART=FEATURE,FEATURE` each, as a dict from part or role to its features, in order.

    Where both words are parts, the first is the feature: `action=state` says that the feature `action` is the state.

    Raises:
        BadInput: A mapping has another form, or a feature or target comes twice.
    """
    given: dict[str, list[str]] = {}
    for setting in settings:
        target, _, listed = (piece.strip() for piece in setting.partition("="))
        features = [piece.strip() for piece in listed.split(",")]
        if target not in PARTS or listed in {*PARTS, ""}:
            # A feature's name may hold any sign.
            feature, _, target = (piece.strip() for piece in setting.rpartition("="))
            features = [feature]
        if not all(features) or not re.fullmatch(r"[a-z0-9][a-z0-9_]*", target):
            raise BadInput(
                f"--map {setting!r}: expected FEATURE=PART, for example observation.images.cam_high=head, or "
                "PART=FEATURE,FEATURE in order, for example state=joints,gripper"
            )
        if target in given:
            several = "; several features of a part stand in one --map, in order: state=joints,gripper"
            raise BadInput(f"--map {setting!r}: {target} is mapped twice{several if target in PARTS else ''}")
        for feature in features:
            others = [other for other, names in given.items() if feature in names]
            if features.count(feature) > 1 or (others and not _BESIDES & {target, *others}):
                raise BadInput(f"--map {setting!r}: {feature} is mapped twice")
        given[target] = features
    return given


def map_features(
    source: SourceDataset, given: Mapping[str, Sequence[str]], embodiment: Embodiment | None
) -> FeatureMap:
    """Decides what each feature is.

    A dataset whose cameras all have a role may lack others that the embodiment declares.

    A feature is what `--map` says, else what its name says (`observation.state`, `action`, `observation.end_effector`,
    `observation.gripper`). A camera has the role for which the embodiment declares its name as `source`; a lone camera
    of a dataset without an embodiment file is `head`.

    Args:
        source: The dataset.
        given: What `--map` says (see `parse_map`).
        embodiment: Its robot, or None where nobody has declared it.

    Raises:
        BadInput: Something is missing or can be read in two ways; the message proposes the flags to add.
    """
    given = _meant(source, given)
    depth = depth_features(source)
    cameras, unclear = _cameras(source, given, embodiment, depth)
    parts = parts_of(source, given)
    missing = [part for part in _NEEDED if part not in parts]
    proposals = [unclear, propose_parts(source, missing, {name for names in parts.values() for name in names})]
    open_ones = [proposal for proposal in proposals if proposal is not None]
    if open_ones:
        raise BadInput(f"{source.folder}: {_asked(open_ones)}")
    ends = len(embodiment.end_effectors) if embodiment is not None else 0
    calibration = {role: _calibration(source, feature, ends or 1) for role, feature in cameras.items()}
    used = {name for names in parts.values() for name in names}
    used |= {*cameras.values(), *(name for c in calibration.values() for name in c.values())}
    rest = sorted(set(source.features) - used)
    # A name of the contract is taken by what was mapped to it, or says what nobody has mapped: never both.
    extra = [
        name
        for name in rest
        if source.features[name]["dtype"] in NUMBERS.keys() | WIDER.keys()
        and name not in KNOWN
        and not name.startswith((IMAGES, CAMERA))
    ]
    left_out = {name: depth[name].why for name in rest if name in depth}
    # What words are read from is no feature that is lost.
    dropped = [name for name in rest if name not in extra and name not in left_out and name not in WORD_COLUMNS]
    return FeatureMap(parts, cameras, extra, dropped, calibration, left_out)


def parts_of(source: SourceDataset, given: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
    """The features of each part, as far as `--map` or their names say it; see `map_features`.

    Raises:
        BadInput: `--map` names a feature that there is not.
    """
    given = _meant(source, given)
    parts = {target: tuple(features) for target, features in given.items() if target in PARTS}
    mapped = {feature for features in given.values() for feature in features}
    for part, name in PARTS.items():
        if part not in parts and name in source.features and name not in mapped:
            parts[part] = (name,)
    return parts


def _meant(source: SourceDataset, given: Mapping[str, Sequence[str]]) -> dict[str, Sequence[str]]:
    """What `--map` says, where it can be read in two ways: in `action=head`, `action` may be a part or a feature."""
    meant: dict[str, Sequence[str]] = {}
    for target, names in given.items():
        turned = len(names) == 1 and names[0] not in source.features and target in source.features
        meant |= {names[0]: [target]} if turned else {target: names}
    for target, names in meant.items():
        for feature in names:
            if feature not in source.features:
                raise BadInput(f"--map {feature}={target}: no such feature; {did_you_mean(feature, source.features)}")
    return meant


def _asked(proposals: list[Proposal]) -> str:
    """What is unclear, the flags that would make all of it clear, and what these leave out."""
    text = "; ".join(proposal.unclear for proposal in proposals)
    if all(proposal.flags for proposal in proposals):
        flags = " ".join(flag for proposal in proposals for flag in proposal.flags)
        text += f". If this is what they are, add: {flags}"
    left = [name for proposal in proposals for name in proposal.left]
    return text + (f". Not among them: {', '.join(left)}" if left else "")


def _calibration(source: SourceDataset, camera: str, ends: int) -> dict[str, str]:
    """What was recorded of a camera's calibration, by the names that an export has for it."""
    found = {}
    widths = {"intrinsics": 4, "pose": 7, "covariance": COVARIANCE_SIZE, "end_effector_pixel": 2 * ends}
    for part, width in widths.items():
        name = f"{CAMERA}{camera.removeprefix(IMAGES)}.{part}"
        feature = source.features.get(name)
        if feature is not None and feature["dtype"] in NUMBERS and feature["shape"] in ([], [width]):
            found[part] = name
    return found


def _cameras(
    source: SourceDataset,
    given: Mapping[str, Sequence[str]],
    embodiment: Embodiment | None,
    depth: Mapping[str, Depth],
) -> tuple[dict[str, str], Proposal | None]:
    """Role -> feature, and what to ask where that is not clear."""
    features = [feature for feature in source.cameras() if feature not in depth]
    wanted = list(embodiment.cameras) if embodiment is not None else None
    mapped = {target: names[0] for target, names in given.items() if target not in PARTS}
    for role, feature in mapped.items():
        if feature in depth and depth[feature].sure:
            raise BadInput(
                f"--map {feature}={role}: {feature} is depth ({depth[feature].why}), expected a colour camera: it is "
                "left out without --map"
            )
        if feature not in source.cameras():
            parts = ", ".join(PARTS)
            raise BadInput(f"--map {feature}={role}: {feature} is no camera, and {role!r} none of {parts}")
        if wanted is not None and role not in wanted:
            raise BadInput(
                f"--map {feature}={role}: the embodiment has no camera {role!r}; {did_you_mean(role, wanted)}"
            )
    free = [feature for feature in features if feature not in mapped.values()]
    if embodiment is not None:
        for role, camera in embodiment.cameras.items():
            # Who declares a name knows better than its sound.
            declared = [*free, *(f for f, found in depth.items() if not found.sure and f not in mapped.values())]
            named = [f for f in declared if role not in mapped and short_name(f) in {camera.source, role}]
            if len(named) == 1:
                mapped[role] = named[0]
                free = [feature for feature in free if feature != named[0]]
        missing = [role for role in embodiment.cameras if role not in mapped]
        if missing and len(missing) == len(free) == 1 == len(features):
            mapped[missing[0]] = free.pop()
            missing = []
        for role in missing:
            for feature, found in depth.items():
                if found.sure and short_name(feature) in {embodiment.cameras[role].source, role}:
                    raise BadInput(
                        f"the embodiment's camera {role} is {feature}, which is depth ({found.why}), no colour camera: "
                        "take it out of the embodiment file"
                    )
        # Where every picture has its role, the other roles' cameras were not there.
        lacks = bool(missing and mapped and not free)
        return mapped, propose_cameras(features, free, missing) if missing and not lacks else None
    if len(features) == 1 and free and not mapped:
        return {"head": free[0]}, None
    short = {short_name(feature): feature for feature in free}
    if "head" in short and len(short) == len(free) and not mapped:
        return short, None
    if not features and not mapped:
        why = "".join(f"; {feature} is taken for depth: {found.why}" for feature, found in depth.items())
        unsure = [feature for feature, found in depth.items() if not found.sure]
        why += f". If that is wrong, add: --map {unsure[0]}=head" if unsure else ""
        raise BadInput(f"{source.folder} has no colour camera: a policy that looks needs at least one{why}")
    return mapped, None if mapped else propose_cameras(features, free, [])


def _width(source: SourceDataset, feature: str) -> int:
    """Channels of a vector feature, as tables have them; what is declared decides where these differ, or none is read.

    Raises:
        BadInput: Nothing shows it.
    """
    if source.features[feature]["dtype"] in {"image", "video", "string"}:
        return 1  # no number: `fit.require_fit` says so
    shape, seen = source.features[feature]["shape"], Counter[int]()
    for width in itertools.islice(_widths(source, feature), _LOOKED_AT):
        seen[width] += 1
        if width and (not shape or math.prod(shape) == width):
            return width
    if shape:
        return max(seen, key=lambda width: (width > 0, seen[width]), default=0) or math.prod(shape)
    raise BadInput(f"{source.folder}: no table shows how many numbers {feature} has: map one that has some (--map)")


def _widths(source: SourceDataset, feature: str) -> Iterator[int]:
    """Numbers of a feature in each table that can be read, by its first row that is not empty; 0 where it has none."""
    for table in dict.fromkeys(where.table for where in source.episodes() if where.table is not None):
        try:
            column = read_table(file_inside(source.folder, table), [feature])[feature]
        except (BadInput, *MALFORMED):
            continue
        try:
            yield vector(pa.table({feature: column.drop_null()[:1]}), feature, np.float64).shape[1]
        except BadEpisode:
            yield 0


def id_of(name: str) -> str:
    """A name as an embodiment's id may be written; empty where no letter or digit of it can be."""
    return re.sub(r"[^a-z0-9_-]+", "_", name.lower()).strip("_-")


def robot_id(source: SourceDataset) -> str:
    """An embodiment's id by names alone; `robots.robot_of` tells apart robots whose names do not."""
    return (id_of(source.robot or source.folder.resolve().name) or "robot")[:64]


def derived_embodiment(source: SourceDataset, features: FeatureMap, robot: str = "") -> Embodiment:
    """A declaration of what a dataset shows of its robot: names and rate; neither units nor limits, nor a frame.

    Args:
        source: The dataset.
        features: What its features are.
        robot: Its id; by default what the dataset calls it.

    Raises:
        BadInput: Not even the number of channels can be seen.
    """
    vectors = {}
    for part in _NEEDED:
        names = part_names(source, features.parts[part], [_width(source, name) for name in features.parts[part]])
        vectors[part] = [{"name": channel, "unit": UNSTATED} for channel in names]
    value = {
        "id": robot or robot_id(source),
        "simulated": False,
        "cameras": {role: {"source": short_name(feature)} for role, feature in features.cameras.items()},
        **vectors,
        "action_frame": UNSTATED,
        "control_hz": source.fps,
    }
    return parse(Embodiment, value, f"what {source.folder} shows of its robot")
