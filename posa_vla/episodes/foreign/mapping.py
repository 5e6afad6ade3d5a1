"""What each feature of a foreign dataset is: its name, the embodiment file or `--map` says so, nothing is guessed."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from posa_vla.episodes.embodiment import UNSTATED, Embodiment
from posa_vla.episodes.foreign.dataset import SourceDataset
from posa_vla.episodes.foreign.depth import Depth, depth_features
from posa_vla.episodes.lerobot.layout import CAMERA, IMAGES, KNOWN, NUMBERS, PARTS, WIDER
from posa_vla.episodes.outside_files import MALFORMED, file_inside, read_table
from posa_vla.errors import BadInput, did_you_mean
from posa_vla.schema import parse

_NEEDED = ("state", "action")
# For proposals in messages alone.
_LOOKS_LIKE = {"state": r"state|qpos|joint|proprio", "action": r"action|cmd|command|target"}
_ROLES = ((r"wrist|hand|gripper", "wrist"), (r"", "head"))


@dataclass(frozen=True)
class FeatureMap:
    """Features of a dataset by what they are.

    Attributes:
        parts: `state`, `action` and, where there are such, `end_effector` and `gripper` -> feature.
        cameras: Role -> feature.
        extra: Other numeric features; they are kept under their own names.
        dropped: Features that cannot be kept (text, numbers under a name that means something else here, ...).
        calibration: Role -> `intrinsics` and `pose`, where they were recorded -> feature.
        depth: Features that are left out because they are depth -> why they are taken for it.
    """

    parts: dict[str, str]
    cameras: dict[str, str]
    extra: list[str]
    dropped: list[str]
    calibration: dict[str, dict[str, str]]
    depth: dict[str, str] = field(default_factory=dict)


def parse_map(settings: list[str]) -> dict[str, str]:
    """`FEATURE=PART-OR-ROLE` each, as a dict from feature to part or role.

    Raises:
        BadInput: A mapping has another form, or a feature or target comes twice.
    """
    given: dict[str, str] = {}
    for setting in settings:
        feature, equals, target = (piece.strip() for piece in setting.partition("="))
        if not equals or not feature or not re.fullmatch(r"[a-z0-9][a-z0-9_]*", target):
            raise BadInput(f"--map {setting!r}: expected FEATURE=PART, for example observation.images.cam_high=head")
        if feature in given or target in given.values():
            raise BadInput(f"--map {setting!r}: {feature} or {target} is mapped twice")
        given[feature] = target
    return given


def map_features(source: SourceDataset, given: Mapping[str, str], embodiment: Embodiment | None) -> FeatureMap:
    """Decides what each feature is.

    A feature is what `--map` says, else what its name says (`observation.state`, `action`, `observation.end_effector`,
    `observation.gripper`). A camera has the role for which the embodiment declares its name as `source`; a lone camera
    of a dataset without an embodiment file is `head`.

    Raises:
        BadInput: Something is missing or can be read in two ways; the message proposes the flags to add.
    """
    for feature in given:
        if feature not in source.features:
            raise BadInput(f"--map {feature}=...: no such feature; {did_you_mean(feature, source.features)}")
    depth = depth_features(source)
    cameras = _cameras(source, given, embodiment, depth)
    parts = {target: feature for feature, target in given.items() if target in PARTS}
    for part, name in PARTS.items():
        if part not in parts and name in source.features and name not in given:
            parts[part] = name
    proposals = [_proposal(source, part) for part in _NEEDED if part not in parts]
    if proposals:
        missing = " and ".join(part for part in _NEEDED if part not in parts)
        raise BadInput(
            f"{source.folder} has no feature that is called {missing}; it has {', '.join(sorted(source.features))}. "
            f"If this is what they are, add: {' '.join(proposals)}"
        )
    calibration = {role: _calibration(source, feature) for role, feature in cameras.items()}
    used = {*parts.values(), *cameras.values(), *(name for c in calibration.values() for name in c.values())}
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
    dropped = [name for name in rest if name not in extra and name not in left_out]
    return FeatureMap(parts, cameras, extra, dropped, calibration, left_out)


def _calibration(source: SourceDataset, camera: str) -> dict[str, str]:
    """What was recorded of a camera's calibration, by the names that an export has for it."""
    found = {}
    for part, width in (("intrinsics", 4), ("pose", 7)):
        name = f"{CAMERA}{camera.removeprefix(IMAGES)}.{part}"
        feature = source.features.get(name)
        if feature is not None and feature["dtype"] in NUMBERS and feature["shape"] in ([], [width]):
            found[part] = name
    return found


def _proposal(source: SourceDataset, part: str) -> str:
    numeric = [name for name, feature in source.features.items() if feature["dtype"] in NUMBERS]
    likely = [name for name in numeric if re.search(_LOOKS_LIKE[part], name.lower())]
    return f"--map {likely[0] if likely else 'FEATURE'}={part}"


def _short(feature: str) -> str:
    return re.split(r"[./]", feature.removeprefix(IMAGES))[-1]


def _cameras(
    source: SourceDataset, given: Mapping[str, str], embodiment: Embodiment | None, depth: Mapping[str, Depth]
) -> dict[str, str]:
    features = [feature for feature in source.cameras() if feature not in depth]
    wanted = list(embodiment.cameras) if embodiment is not None else None
    mapped = {target: feature for feature, target in given.items() if target not in PARTS}
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
            named = [f for f in declared if role not in mapped and _short(f) in {camera.source, role}]
            if len(named) == 1:
                mapped[role] = named[0]
                free = [feature for feature in free if feature != named[0]]
        missing = [role for role in embodiment.cameras if role not in mapped]
        if missing and len(missing) == len(free) == 1 == len(features):
            mapped[missing[0]] = free.pop()
            missing = []
        for role in missing:
            for feature, found in depth.items():
                if found.sure and _short(feature) in {embodiment.cameras[role].source, role}:
                    raise BadInput(
                        f"the embodiment's camera {role} is {feature}, which is depth ({found.why}), no colour camera: "
                        "take it out of the embodiment file"
                    )
        if missing:
            raise BadInput(_unclear(source, features, free, missing))
        return mapped
    if len(features) == 1 and free and not mapped:
        return {"head": free[0]}
    short = {_short(feature): feature for feature in free}
    if "head" in short and len(short) == len(free) and not mapped:
        return short
    if not features and not mapped:
        why = "".join(f"; {feature} is taken for depth: {found.why}" for feature, found in depth.items())
        unsure = [feature for feature, found in depth.items() if not found.sure]
        why += f". If that is wrong, add: --map {unsure[0]}=head" if unsure else ""
        raise BadInput(f"{source.folder} has no colour camera: a policy that looks needs at least one{why}")
    if not mapped:
        raise BadInput(_unclear(source, features, free, []))
    return mapped


def _unclear(source: SourceDataset, features: list[str], free: list[str], missing: list[str]) -> str:
    """The message that proposes roles; the first camera that is not on a hand is proposed as `head`."""
    proposals: dict[str, str] = {}
    for feature in free:
        role = next(role for pattern, role in _ROLES if re.search(pattern, _short(feature).lower()))
        side = re.search(r"left|right", _short(feature).lower())
        role += f"_{side[0]}" if side else ""
        while role in proposals.values():
            role += "_2"
        proposals[feature] = role
    if missing:
        proposals = dict(zip(free, missing, strict=False))
    flags = " ".join(f"--map {feature}={role}" for feature, role in proposals.items()) or "--map FEATURE=ROLE"
    what = f"the embodiment's cameras {', '.join(missing)}" if missing else "the cameras"
    return (
        f"{source.folder}: the roles of {what} are not declared; it has {', '.join(features) or 'no camera'}. "
        f"If this is what they are, add: {flags}"
    )


def channel_names(feature: dict[str, Any], count: int) -> list[str]:
    """Names of the channels of a vector feature, however nested; `channel_0` and so on where they do not fit."""

    def flat(value: Any) -> list[str]:
        if isinstance(value, str):
            return [value]
        if isinstance(value, dict):
            value = list(value.values())
        return [name for item in value for name in flat(item)] if isinstance(value, list | tuple) else []

    names = flat(feature["names"])
    if len(names) == count and len(set(names)) == count and all(names):
        return names
    return [f"channel_{number}" for number in range(count)]


def _width(source: SourceDataset, feature: str) -> int:
    """Channels of a vector feature: as declared, else as the first table that can be read has it."""
    shape = source.features[feature]["shape"]
    if shape:
        return math.prod(shape)
    for where in source.episodes():
        if where.table is None:
            continue
        try:
            first = read_table(file_inside(source.folder, where.table), [feature])[feature][0].as_py()
        except (BadInput, *MALFORMED):
            continue
        while isinstance(first, list) and first and isinstance(first[0], list):
            first = [value for row in first for value in row]
        return len(first) if isinstance(first, list) else 1
    raise BadInput(f"{source.folder}: no table can be read that shows how many channels {feature} has")


def robot_id(source: SourceDataset) -> str:
    """An embodiment's id, made of what the dataset calls its robot."""
    return (re.sub(r"[^a-z0-9_-]+", "_", source.robot.lower()).strip("_-") or "robot")[:64]


def derived_embodiment(source: SourceDataset, features: FeatureMap) -> Embodiment:
    """A declaration of what a dataset shows of its robot: names and rate; neither units nor limits, nor a frame.

    Args:
        source: The dataset.
        features: What its features are.

    Raises:
        BadInput: Not even the number of channels can be seen.
    """
    vectors = {}
    for part in _NEEDED:
        feature = features.parts[part]
        names = channel_names(source.features[feature], _width(source, feature))
        vectors[part] = [{"name": channel, "unit": UNSTATED} for channel in names]
    value = {
        "id": robot_id(source),
        "simulated": False,
        "cameras": {role: {"source": _short(feature)} for role, feature in features.cameras.items()},
        **vectors,
        "action_frame": UNSTATED,
        "control_hz": source.fps,
    }
    return parse(Embodiment, value, f"what {source.folder} shows of its robot")
