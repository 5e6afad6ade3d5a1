"""What a message proposes where nobody has said what features are: flags to paste, and what they leave out."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from posa_vla.episodes.foreign.dataset import SourceDataset
from posa_vla.episodes.lerobot.layout import CAMERA, IMAGES, NUMBERS, WIDER

# Words in a feature's name by which it is proposed; nothing is ever decided by them.
_WORDS = {
    "action": {"action", "actions", "cmd", "command", "commands", "commanded", "control", "target", "targets", "goal"},
    "state": {"state", "states", "qpos", "joint", "joints", "proprio", "pos", "position", "positions", "observation"}
    | {"observations", "obs", "gripper", "grippers", "effector"},
}
# What is recorded beside positions, and flags of the episode's course.
_BESIDE = {"velocity", "velocities", "vel", "qvel", "effort", "efforts", "torque", "torques", "qtau", "tau", "force"}
_BESIDE |= {"forces", "current", "currents", "wrench", "acceleration", "acc", "imu", "temperature", "voltage", "status"}
_BESIDE |= {"timestamp", "time", "stamp", "index", "id", "next", "done", "reward", "success", "valid", "mask", "error"}
_BESIDE |= {"raw", "original", "delta", "normalized", "discount", "first", "last", "terminal", "progress", "stage"}
_GRIPPER = {"gripper", "grippers", "finger", "fingers", "hand", "hands", "claw", "jaw"}
_CARTESIAN = {"end", "ee", "eef", "tcp", "cartesian", "pose", "poses", "xyz", "quat", "quaternion", "orientation"}
_CARTESIAN |= {"rotation", "rpy", "euler"}
_JOINTS = {"joint", "joints", "qpos", "arm", "arms"}
_ROLES = ((r"wrist|hand|gripper", "wrist"), (r"", "head"))


@dataclass(frozen=True)
class Proposal:
    """What to ask of a dataset's owner.

    Attributes:
        unclear: What nobody has said, in words.
        flags: Flags, quoted for a shell, that say it as it may be; none where no flag could.
        left: Features that were looked at and are not among the flags.
    """

    unclear: str
    flags: list[str]
    left: list[str]


def short_name(feature: str) -> str:
    """A camera feature's own name, without the folders that it stands in."""
    return re.split(r"[./]", feature.removeprefix(IMAGES))[-1]


def flag(value: str) -> str:
    """`--map` with its value, as a shell reads it."""
    return f"--map {shlex.quote(value)}"


def _words(feature: str) -> set[str]:
    # observation.jointPos, left-arm/qpos: words end where case, sign or digits change.
    return set(re.findall(r"[a-z]+", re.sub(r"([a-z])([A-Z])", r"\1 \2", feature).lower()))


def _side(feature: str) -> str:
    words = _words(feature)
    return next((part for part in ("action", "state") if words & _WORDS[part]), "")


def _kind(source: SourceDataset, feature: str) -> str:
    words = _words(feature)
    if words & _GRIPPER:
        return "gripper"
    if words & _CARTESIAN:
        return "cartesian"
    single = math.prod(source.features[feature]["shape"] or [0]) == 1
    return "joints" if words & _JOINTS or single else "other"


def _likely(source: SourceDataset, part: str, numeric: Sequence[str]) -> list[str]:
    """The features that may make a part, in the dataset's order: positions, and one description of the arm."""
    side = [name for name in numeric if _side(name) == part]
    positions = [name for name in side if not _words(name) & _BESIDE] or side
    if any(_kind(source, name) == "joints" for name in positions):
        return [name for name in positions if _kind(source, name) != "cartesian"]
    return positions


def _described(source: SourceDataset, feature: str) -> str:
    shape = source.features[feature]["shape"]
    return f"{feature} ({math.prod(shape)})" if shape else feature


def propose_parts(source: SourceDataset, missing: Sequence[str], taken: Collection[str]) -> Proposal | None:
    """Which features may be the parts that are missing, the gripper among them; None where nothing is missing.

    Args:
        source: The dataset.
        missing: `state`, `action` or both.
        taken: Features that are something else already.
    """
    if not missing:
        return None
    numeric = [
        name
        for name, feature in source.features.items()
        if feature["dtype"] in NUMBERS.keys() | WIDER.keys() and name not in taken and not name.startswith(CAMERA)
    ]
    chosen: dict[str, list[str]] = {part: _likely(source, part, numeric) for part in missing}
    for part in missing:
        others = {name for names in chosen.values() for name in names}
        unnamed = [n for n in numeric if n not in others and not _side(n) and not _words(n) & _BESIDE]
        chosen[part] = chosen[part] or unnamed[:1]
    names = " and ".join(missing)
    has = ", ".join(_described(source, name) for name in numeric) or "no other numbers"
    nothing = [part for part in missing if not chosen[part]]
    if nothing:
        what = " or ".join(nothing)
        return Proposal(
            f"it has no feature that is called {names}, and none whose name says that it may be the {what}; it has "
            f"{has}. What a robot saw without what it was told to do cannot be learnt from",
            [],
            [],
        )
    flags = []
    for part, features in chosen.items():
        # A name with a comma can stand alone, and not in a list.
        listed = features if len(features) == 1 else [name for name in features if "," not in name]
        flags.append(flag(f"{listed[0]}={part}" if len(listed) == 1 else f"{part}={','.join(listed)}"))
        chosen[part] = listed
    used = {name for features in chosen.values() for name in features}
    left = [_described(source, name) for name in numeric if name not in used]
    return Proposal(f"it has no feature that is called {names}", flags, left)


def grippers_beside(source: SourceDataset, parts: Mapping[str, Sequence[str]], extra: Sequence[str]) -> list[str]:
    """What to say of grippers that lie beside a state or action which has none by its names.

    Args:
        source: The dataset.
        parts: The features of each part.
        extra: Numeric features that are kept and are no part.
    """
    said = []
    for part in ("state", "action"):
        inside = {word for name in parts[part] for word in _words(f"{name} {source.features[name]['names']}")}
        beside = [n for n in extra if _side(n) == part and _words(n) & _GRIPPER and not _words(n) & _BESIDE]
        if beside and not inside & _GRIPPER and not any("," in name for name in (*parts[part], *beside)):
            joined = flag(f"{part}={','.join([*parts[part], *beside])}")
            said.append(
                f"{', '.join(beside)} is kept beside the {part} and is no part of it; if it belongs there, remove "
                f"what came in, and the embodiment file that was written, and ingest it again with {joined}"
            )
    return said


def propose_cameras(cameras: Sequence[str], free: Sequence[str], missing: Sequence[str]) -> Proposal:
    """Which roles cameras may have; the first camera that is not on a hand is proposed as `head`.

    Args:
        cameras: The dataset's cameras.
        free: Those whose role nobody has said.
        missing: Roles that the embodiment declares and no camera has; none where no embodiment is declared.
    """
    has = ", ".join(cameras) or "no camera"
    if missing:
        what = f"the roles of the embodiment's cameras {', '.join(missing)} are not declared; it has {has}"
        if len(free) < len(missing):
            return Proposal(
                f"{what}. It has too few: another embodiment file (--embodiment) declares the cameras that there are",
                [],
                [],
            )
        roles = dict(zip(free, missing, strict=False))
        return Proposal(what, [flag(f"{f}={role}") for f, role in roles.items()], list(free[len(missing) :]))
    roles = {}
    for feature in free:
        role = next(role for pattern, role in _ROLES if re.search(pattern, short_name(feature).lower()))
        side = re.search(r"left|right", short_name(feature).lower())
        role += f"_{side[0]}" if side else ""
        while role in roles.values():
            role += "_2"
        roles[feature] = role
    return Proposal(
        f"the roles of the cameras are not declared; it has {has}",
        [flag(f"{feature}={role}") for feature, role in roles.items()],
        [],
    )
