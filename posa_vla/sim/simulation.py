"""A scene in motion: physics, end-effector control, what is held."""

from __future__ import annotations

import mujoco
import numpy as np
from numpy.polynomial.polynomial import polyval
from numpy.typing import NDArray

from posa_vla.episodes.embodiment import Embodiment, SimulatedArm, TableArea, embodiment_file, load_embodiment
from posa_vla.errors import BadInput
from posa_vla.geometry import matrix_to_quaternion
from posa_vla.params import PerturbParams
from posa_vla.sim.cameras import SceneCameras
from posa_vla.sim.control import POSITION, JointChannels, make_control
from posa_vla.sim.inverse_kinematics import InverseKinematics
from posa_vla.sim.perturbation import Perturbation
from posa_vla.sim.scene_model import build_model, object_slots, place_bowl, place_objects, read_arm, require_names
from posa_vla.sim.tasks import Scene

# The joint targets run to their new values over this share of a control step, in this many pieces; then they rest.
_RAMP_SHARE, _RAMP_PIECES = 0.4, 4


class Simulation:
    """An arm over a table with objects; the base frame is MuJoCo's world frame."""

    def __init__(self, embodiment: str, objects: int, image_size: int, *, bowl: bool = False) -> None:
        """Builds the model of an embodiment with room for `objects` objects, and a bowl.

        Raises:
            BadInput: The embodiment has no arm model, or one that does not fit what its file says.
        """
        self.embodiment: Embodiment = load_embodiment(embodiment)
        where = str(embodiment_file(embodiment))
        if self.embodiment.arm is None:
            raise BadInput(f"{where} declares no `arm`: a simulated environment needs one")
        self.arm: SimulatedArm = self.embodiment.arm
        file = embodiment_file(embodiment).parent / self.arm.mjcf
        self.area = self.arm.area or TableArea()
        self.model = build_model(file, objects, image_size, self.area, bowl=bowl)
        require_names(self.model, self.arm, where)
        self._require_cameras(where)
        self.data = mujoco.MjData(self.model)
        self.slots = object_slots(self.model, objects)
        aspects = {camera.source: camera.aspect for camera in self.embodiment.cameras.values()}
        self.cameras = SceneCameras(self.model, image_size, aspects)
        self._arm_model = read_arm(file).compile()
        self.control = make_control(self.embodiment, self._arm_model, self.arm, where)
        self._own_channels = self._state_channels(where)
        self._ik = InverseKinematics(self._arm_model, self.arm)
        self._index_model()
        self._substeps = max(1, round(1 / self.embodiment.control_hz / self.model.opt.timestep))
        self.embodiment.require_limits("the simulator")

    def _index_model(self) -> None:
        model, arm = self.model, self.arm
        self._joint_qpos = np.array([int(model.jnt_qposadr[model.joint(name).id]) for name in arm.joints])
        self._servos = np.array([model.actuator(name).id for name in arm.actuators])
        self._gripper_servo = model.actuator(arm.gripper_actuator).id
        self._gripper_qpos = int(model.jnt_qposadr[model.joint(arm.gripper_joint).id])
        self._site = model.site(arm.end_effector_site).id
        self._object_geoms = {g: i for i, slot in enumerate(self.slots) for g in slot.geoms.values()}
        arm_root = model.body_rootid[model.site_bodyid[self._site]]
        self._arm_bodies = {b for b in range(model.nbody) if model.body_rootid[b] == arm_root}

    def _state_channels(self, where: str) -> JointChannels | None:
        """How the joints' positions become state channels in units of their own; None where there are none of these."""
        names = [c.name for c in self.embodiment.state]
        unknown = [n for n in names if n not in {*self.arm.joints, *POSITION, "gripper"}]
        if not unknown:
            return None
        try:
            return JointChannels(self.embodiment, self._arm_model, self.arm, names)
        except ValueError as error:
            raise BadInput(
                f"{where}: state channels {unknown} unknown; expected some of "
                f"{sorted({*self.arm.joints, *POSITION, 'gripper'})}, or the joints that `kinematics` names and the "
                f"gripper: {error}"
            ) from None

    def _require_cameras(self, where: str) -> None:
        for role, camera in self.embodiment.cameras.items():
            if mujoco.mj_name2id(self.model, mujoco.mjtObj.mjOBJ_CAMERA, camera.source) < 0:
                raise BadInput(f"{where}: camera {role}: neither the arm nor the scene has a camera {camera.source!r}")

    def reset(self, scene: Scene) -> None:
        """Places the scene's objects and brings the arm to its start pose, open and at rest."""
        mujoco.mj_resetData(self.model, self.data)
        place_objects(self.model, self.data.qpos, self.slots, scene)
        place_bowl(self.model, scene)
        joints = np.array(self.arm.home, dtype=np.float64)
        self._set_arm(joints)
        mujoco.mj_forward(self.model, self.data)
        start = self.end_effector_position() + np.array(scene.start_offset)
        self._set_arm(self._ik.solve(joints, start, steps=5))
        mujoco.mj_forward(self.model, self.data)

    def _set_arm(self, joints: NDArray[np.float64]) -> None:
        model, opened = self.model, self.arm.gripper_range[1]
        self.data.qpos[self._joint_qpos] = joints
        self.data.qpos[self._gripper_qpos] = opened
        gripper = model.joint(self.arm.gripper_joint).id
        for k in range(model.neq):
            # A joint that the gripper joint drives takes the place that the constraint will want.
            driven = model.eq_type[k] == mujoco.mjtEq.mjEQ_JOINT and model.eq_obj2id[k] == gripper
            if driven:
                address = model.jnt_qposadr[model.eq_obj1id[k]]
                moved = opened - model.qpos0[self._gripper_qpos]
                self.data.qpos[address] = model.qpos0[address] + polyval(moved, model.eq_data[k, :5])
        self.data.ctrl[self._servos] = joints
        self.data.ctrl[self._gripper_servo] = opened

    def apply(self, action: NDArray[np.float32]) -> None:
        """Runs one control step.

        Args:
            action: float32 (A,) within the action limits, the embodiment's channels (see `make_control`).
        """
        wanted = np.asarray(action, dtype=np.float64)
        goal, opening = self.control.targets(wanted, self.joint_positions(), self.end_effector_position())
        closed, opened = self.arm.gripper_range
        self.data.ctrl[self._gripper_servo] = closed + opening * (opened - closed)
        start = self.data.ctrl[self._servos].copy()
        piece = max(1, round(self._substeps * _RAMP_SHARE / _RAMP_PIECES))
        for k in range(1, _RAMP_PIECES + 1):
            self.data.ctrl[self._servos] = start + (goal - start) * k / _RAMP_PIECES
            mujoco.mj_step(self.model, self.data, nstep=piece)
        rest = self._substeps - piece * _RAMP_PIECES
        if rest > 0:
            mujoco.mj_step(self.model, self.data, nstep=rest)
        mujoco.mj_forward(self.model, self.data)

    def joint_positions(self) -> NDArray[np.float64]:
        """Arm joints (J,), rad."""
        positions: NDArray[np.float64] = self.data.qpos[self._joint_qpos].copy()
        return positions

    def end_effector_position(self) -> NDArray[np.float64]:
        """(3,) m, base frame."""
        position: NDArray[np.float64] = self.data.site_xpos[self._site].copy()
        return position

    def end_effector_pose(self) -> NDArray[np.float64]:
        """(7,) position m, quaternion `wxyz`, base frame."""
        rotation = self.data.site_xmat[self._site].reshape(3, 3)
        return np.concatenate([self.end_effector_position(), matrix_to_quaternion(rotation)])

    def gripper_opening(self) -> float:
        """Measured opening, 0 closed to 1 open."""
        closed, opened = self.arm.gripper_range
        return float(np.clip((self.data.qpos[self._gripper_qpos] - closed) / (opened - closed), 0, 1))

    def state(self) -> NDArray[np.float32]:
        """The embodiment's state channels, float32 (S,)."""
        if self._own_channels is not None:
            return self._own_channels.write(self.joint_positions(), self.gripper_opening())
        values = dict(zip(self.arm.joints, self.joint_positions(), strict=True))
        values |= dict(zip(POSITION, self.end_effector_position(), strict=True))
        values["gripper"] = self.gripper_opening()
        return np.array([values[c.name] for c in self.embodiment.state], dtype=np.float32)

    def object_position(self, index: int) -> NDArray[np.float64]:
        """Centre of an object, (3,) m, base frame."""
        position: NDArray[np.float64] = self.data.xpos[self.slots[index].body].copy()
        return position

    def held(self, index: int) -> bool:
        """Whether at least two bodies of the arm touch the object."""
        touching = set()
        for contact in self.data.contact[: self.data.ncon]:
            for one, other in ((contact.geom1, contact.geom2), (contact.geom2, contact.geom1)):
                if self._object_geoms.get(int(one)) == index:
                    body = int(self.model.geom_bodyid[other])
                    if body in self._arm_bodies:
                        touching.add(body)
        return len(touching) >= 2

    def perturbation(self, params: PerturbParams) -> Perturbation:
        """The scene's perturbation, which changes how the scene looks, seed by seed."""
        return Perturbation(self.model, params)

    def close(self) -> None:
        """Frees the renderer."""
        self.cameras.close()
