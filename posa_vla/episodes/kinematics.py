"""The end-effector's pose from recorded joints, by MuJoCo's forward kinematics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posa_vla.episodes.embodiment import Embodiment
from posa_vla.errors import BadInput, did_you_mean
from posa_vla.geometry import compose, invert


class ForwardKinematics:
    """An embodiment's MJCF, ready to be asked where the end-effector is."""

    def __init__(self, embodiment: Embodiment, folder: Path) -> None:
        """Loads the model.

        Args:
            embodiment: With a `kinematics` section.
            folder: The embodiment file's folder, which `mjcf` is relative to.

        Raises:
            BadInput: The MJCF is missing or cannot be read, or has no joint, site or body of a name that is declared.
        """
        import mujoco

        kinematics = embodiment.kinematics
        if kinematics is None:
            raise BadInput(f"embodiment {embodiment.id} declares no `kinematics`")
        path = folder / kinematics.mjcf
        if not path.is_file():
            raise BadInput(f"{path} does not exist: `kinematics.mjcf` is relative to the embodiment file")
        try:
            self._model: Any = mujoco.MjModel.from_xml_path(str(path))
        except ValueError as error:
            raise BadInput(f"{path} is no MJCF that MuJoCo can load: {error}") from None
        self._mujoco, self._path = mujoco, path
        self._data = mujoco.MjData(self._model)
        self._site = self._named("site", kinematics.site)
        self._base = self._named("body", kinematics.base)
        names = [channel.name for channel in embodiment.state]
        self._columns = [names.index(channel) for channel in kinematics.joints]
        joints = [self._named("joint", joint) for joint in kinematics.joints.values()]
        for joint, name in zip(joints, kinematics.joints.values(), strict=True):
            one_axis = (int(mujoco.mjtJoint.mjJNT_HINGE), int(mujoco.mjtJoint.mjJNT_SLIDE))
            if int(self._model.jnt_type[joint]) not in one_axis:
                raise BadInput(f"{path}: joint {name!r} turns or slides along no one axis: one channel cannot set it")
        self._places = [int(self._model.jnt_qposadr[joint]) for joint in joints]

    def _named(self, kind: str, name: str) -> int:
        model, mujoco = self._model, self._mujoco
        number = mujoco.mj_name2id(model, getattr(mujoco.mjtObj, f"mjOBJ_{kind.upper()}"), name)
        if number < 0:
            count = {"site": model.nsite, "body": model.nbody, "joint": model.njnt}[kind]
            known = [getattr(model, kind)(index).name for index in range(count)]
            raise BadInput(f"{self._path} has no {kind} {name!r}; {did_you_mean(name, known)}")
        return int(number)

    def poses(self, state: NDArray[np.float32]) -> NDArray[np.float64]:
        """Where the end-effector is.

        Args:
            state: float32 (T, S), the embodiment's state channels; joints in rad (m where they slide).

        Returns:
            float64 (T, 7): position (m) and quaternion `wxyz`, in the base frame.
        """
        data, model, mujoco = self._data, self._model, self._mujoco
        data.qpos[:] = model.qpos0
        poses = np.empty((len(state), 7))
        quaternion = np.empty(4)
        for frame, joints in enumerate(state[:, self._columns]):
            data.qpos[self._places] = joints
            mujoco.mj_kinematics(model, data)
            mujoco.mju_mat2Quat(quaternion, data.site_xmat[self._site])
            base = np.concatenate([data.xpos[self._base], data.xquat[self._base]])
            poses[frame] = compose(invert(base), np.concatenate([data.site_xpos[self._site], quaternion]))
        return poses
