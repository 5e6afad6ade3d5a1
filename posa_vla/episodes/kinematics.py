"""The end-effector's pose from recorded joints, by MuJoCo's forward kinematics."""

from __future__ import annotations

import collections
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from posa_vla.episodes.chain import JointUse, Place, joint_line
from posa_vla.episodes.embodiment import Embodiment
from posa_vla.errors import BadInput, did_you_mean
from posa_vla.geometry import compose, invert

# What of a model file is no chain of joints. Meshes are often absent, and without shapes bodies need a mass of ours.
_NO_CHAIN = (
    *("actuators", "sensors", "tendons", "equalities", "pairs", "excludes", "keys", "cameras", "lights", "skins"),
    *("flexes", "geoms", "meshes", "hfields", "materials", "textures"),
)
_MASS = 1e-3
_SITE = "posa_end_effector"
# By how much a recorded joint may exceed its limit, rad (m), and in what share of the frames: encoders are off by some.
_SLACK, _BEYOND = 0.15, 0.05
# Two joints that are at exactly 100 in more than this share of the frames are shares of a range, and cut.
_CUT = 0.02
# Joints that turn by less than this (rad) in whole demonstrations are in rad, and were taken for degrees.
_HARDLY = 0.11
_DEGREES = {"deg", "degree", "degrees"}
# How far along a jaw the middle of what is seen of it lies: its back is hidden by the hand.
_SEEN = 0.75


def load_chain(path: Path) -> Any:
    """The specification of an MJCF's or URDF's bodies, joints and sites, without shapes, which may be absent.

    Raises:
        BadInput: The file is missing, cannot be read, or its links go round in a circle.
    """
    import mujoco

    if not path.is_file():
        raise BadInput(f"{path} does not exist: the kinematics' file is relative to the embodiment file")
    if path.suffix.lower() == ".urdf":
        _require_tree(path)
    try:
        spec: Any = mujoco.MjSpec.from_file(str(path))
    except ValueError as error:
        raise BadInput(f"{path} is no MJCF or URDF that MuJoCo can load: {error}") from None
    # The links of fixed joints would lose their names.
    spec.compiler.fusestatic = False
    spec.compiler.boundmass = spec.compiler.boundinertia = _MASS
    for kind in _NO_CHAIN:
        for element in list(getattr(spec, kind)):
            spec.delete(element)
    return spec


def _require_tree(path: Path) -> None:
    try:
        root = ElementTree.parse(path).getroot()
    except ElementTree.ParseError as error:
        raise BadInput(f"{path} is no URDF: {error}") from None
    parents: dict[str, list[str]] = collections.defaultdict(list)
    for joint in root.iter("joint"):
        child = joint.find("child")
        if child is not None:
            parents[child.get("link", "")].append(joint.get("name", ""))
    for link, joints in parents.items():
        if len(joints) > 1:
            raise BadInput(
                f"{path}: link {link!r} is the child of the joints {' and '.join(joints)}: a loop has no one position "
                "that follows from its joints. Leave the joint that closes it out of the file"
            )


class ForwardKinematics:
    """An embodiment's chain, ready to be asked where the end-effector is."""

    def __init__(self, embodiment: Embodiment, folder: Path) -> None:
        """Loads the model.

        Args:
            embodiment: With a `kinematics` section.
            folder: The embodiment file's folder, which the model file is relative to.

        Raises:
            BadInput: The model file is missing or cannot be read, or has no joint, site or body of a name that is
                declared.
        """
        import mujoco

        kinematics = embodiment.kinematics
        if kinematics is None:
            raise BadInput(f"embodiment {embodiment.id} declares no `kinematics`")
        self._mujoco, self._path = mujoco, folder / kinematics.file
        spec = load_chain(self._path)
        sites = [self._site_of(spec, place, f"{_SITE}_{n}") for n, place in enumerate(kinematics.places)]
        self._several = bool(kinematics.end_effectors)
        try:
            self._model: Any = spec.compile()
        except ValueError as error:
            raise BadInput(f"{self._path} is no chain of joints that MuJoCo can compute: {error}") from None
        self._data = mujoco.MjData(self._model)
        self._sites = [self._model.site(name).id for name in sites]
        bodies = [self._model.body(number).name for number in range(self._model.nbody)]
        self._require(kinematics.base, "body", bodies)
        self._base = self._model.body(kinematics.base).id
        names = [channel.name for channel in embodiment.state]
        self._channels = list(kinematics.joints)
        self._columns = [names.index(channel) for channel in self._channels]
        uses = [kinematics.use(channel) for channel in self._channels]
        self._joints = [self._joint(use) for use in uses]
        units = {channel.name: channel.unit for channel in embodiment.state}
        self._units = {units[channel] for channel in self._channels}
        try:
            lines = [
                joint_line(u, units[c], self._limits(j))
                for c, u, j in zip(self._channels, uses, self._joints, strict=True)
            ]
        except ValueError as error:
            raise BadInput(f"{self._path}: {error}") from None
        self._scale, self._offset = (np.array(column) for column in zip(*lines, strict=True))
        self._places = [int(self._model.jnt_qposadr[joint]) for joint in self._joints]
        self._jaws = kinematics.jaws
        for jaw in self._jaws:
            self._joint(JointUse(joint=jaw.joint))

    def _require(self, name: str, kind: str, known: list[str]) -> None:
        if name not in known:
            raise BadInput(f"{self._path} has no {kind} {name!r}; {did_you_mean(name, [k for k in known if k])}")

    def _site_of(self, spec: Any, place: Place, name: str) -> str:
        """The site that a place is; a body gets one of the given name."""
        known = spec.sites if place.kind == "site" else spec.bodies
        self._require(place.name, place.kind, [element.name for element in known])
        if place.kind == "site":
            return place.name
        spec.body(place.name).add_site(name=name, pos=place.point)
        return name

    def _joint(self, use: JointUse) -> int:
        mujoco, model = self._mujoco, self._model
        self._require(use.joint, "joint", [model.joint(number).name for number in range(model.njnt)])
        joint = int(model.joint(use.joint).id)
        one_axis = (int(mujoco.mjtJoint.mjJNT_HINGE), int(mujoco.mjtJoint.mjJNT_SLIDE))
        if int(model.jnt_type[joint]) not in one_axis:
            raise BadInput(
                f"{self._path}: joint {use.joint!r} turns or slides along no one axis: one channel cannot set it"
            )
        return joint

    def _limits(self, joint: int) -> tuple[float, float] | None:
        if not self._model.jnt_limited[joint]:
            return None
        low, high = self._model.jnt_range[joint]
        return float(low), float(high)

    def positions(self, state: NDArray[np.float32]) -> NDArray[np.float64]:
        """Positions of the declared joints, float64 (T, J), rad (m where they slide), of states (T, S)."""
        positions: NDArray[np.float64] = state[:, self._columns].astype(np.float64) * self._scale + self._offset
        return positions

    def poses(self, state: NDArray[np.float32]) -> NDArray[np.float64]:
        """Where the end-effector is, or each of several.

        Args:
            state: float32 (T, S), the embodiment's state channels, in their own units.

        Returns:
            float64 (T, 7): position (m) and quaternion `wxyz`, in the base frame. (T, E, 7) where the embodiment
            declares E `end_effectors`, in their order.
        """
        data, model, mujoco = self._data, self._model, self._mujoco
        data.qpos[:] = model.qpos0
        poses = np.empty((len(state), len(self._sites), 7))
        quaternion = np.empty(4)
        for frame, joints in enumerate(self.positions(state)):
            data.qpos[self._places] = joints
            mujoco.mj_kinematics(model, data)
            base = invert(np.concatenate([data.xpos[self._base], data.xquat[self._base]]))
            for end, site in enumerate(self._sites):
                mujoco.mju_mat2Quat(quaternion, data.site_xmat[site])
                poses[frame, end] = compose(base, np.concatenate([data.site_xpos[site], quaternion]))
        return poses if self._several else poses[:, 0]

    def moved_part(self, openings: tuple[float, float]) -> NDArray[np.float64] | None:
        """The middle of where the gripper's jaws are before and after they move, None where no jaw is declared.

        A jaw is seen from its tip back to its joint; a point is taken at three quarters of this way to the tip.

        Args:
            openings: Of the gripper before and after, 0 closed to 1 open.

        Returns:
            float64 (3,), m, in the end-effector's frame.
        """
        if not self._jaws:
            return None
        data, model, mujoco = self._data, self._model, self._mujoco
        places = []
        for jaw in self._jaws:
            joint = model.joint(jaw.joint).id
            body = int(model.jnt_bodyid[joint])
            for opening in openings:
                data.qpos[:] = model.qpos0
                data.qpos[model.jnt_qposadr[joint]] = jaw.closed + opening * (jaw.open - jaw.closed)
                mujoco.mj_kinematics(model, data)
                tip = data.xpos[body] + data.xmat[body].reshape(3, 3) @ np.array(jaw.tip)
                # Of the joint's axis, what is nearest to the tip; a jaw that slides begins where its body does.
                along = data.xaxis[joint] if model.jnt_type[joint] == mujoco.mjtJoint.mjJNT_HINGE else np.zeros(3)
                heel = data.xanchor[joint] + along * float(along @ (tip - data.xanchor[joint]))
                if not along.any():
                    heel = data.xpos[body]
                seen = heel + _SEEN * (tip - heel)
                site = self._sites[0]
                places.append(data.site_xmat[site].reshape(3, 3).T @ (seen - data.site_xpos[site]))
        middle: NDArray[np.float64] = np.mean(places, axis=0)
        return middle

    def unfit(self, state: NDArray[np.float32]) -> str:
        """Why recorded joints are not those of this chain, in words with what to mend; empty where they may be.

        Args:
            state: float32 (T, S) of one or several episodes.
        """
        if len(state) == 0:
            return ""
        positions = self.positions(state)
        wrong = []
        for column, (channel, joint) in enumerate(zip(self._channels, self._joints, strict=True)):
            limits, values = self._limits(joint), positions[:, column]
            if limits is not None and self._beyond(values, limits):
                seen = f"{values.min():.2f} to {values.max():.2f}"
                wrong.append(
                    f"{channel} moves joint {self._model.joint(joint).name!r} from {seen}, its limits are "
                    f"{limits[0]:.2f} to {limits[1]:.2f}"
                )
        if wrong:
            degrees = self._units == {"rad"} and all(self._holds(positions * (math.pi / 180)))
            mend = (
                "they would fit as degrees: declare unit deg"
                if degrees
                else "compare units, order and signs with kinematics.joints, or is this another arm"
            )
            return f"{'; '.join(wrong)}: {mend}"
        if self._units <= _DEGREES and self._ends_at_100(state):
            return (
                "several end at exactly 100 or -100, as LeRobot's shares of a calibrated range do: declare unit "
                "% and span: [-100, 100] of each joint (--arm so101_percent)"
            )
        radians = (positions - self._offset) * (180 / math.pi) + self._offset
        turning = np.array([bool(self._model.jnt_type[j] == self._mujoco.mjtJoint.mjJNT_HINGE) for j in self._joints])
        moved = float(np.ptp(positions[:, turning], axis=0).max()) if turning.any() else math.inf
        if self._units <= _DEGREES and 0 < moved < _HARDLY and all(self._holds(radians)):
            return (
                f"no joint turns by more than {math.degrees(moved):.1f} degrees in all: they would fit as rad, declare "
                "unit rad"
            )
        return ""

    def _ends_at_100(self, state: NDArray[np.float32]) -> bool:
        values = np.abs(state[:, self._columns])
        return bool(values.max() == 100 and np.sum((values == 100).mean(axis=0) > _CUT) > 1)

    def _beyond(self, values: NDArray[np.float64], limits: tuple[float, float]) -> bool:
        return bool(np.mean((values < limits[0] - _SLACK) | (values > limits[1] + _SLACK)) > _BEYOND)

    def _holds(self, positions: NDArray[np.float64]) -> Iterator[bool]:
        for column, joint in enumerate(self._joints):
            limits = self._limits(joint)
            yield limits is None or not self._beyond(positions[:, column], limits)
