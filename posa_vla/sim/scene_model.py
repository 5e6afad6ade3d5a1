"""The MuJoCo model of a scene: an arm's MJCF, a table, light, a head camera, and slots that objects appear in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from posa_vla.episodes.embodiment import SimulatedArm, TableArea
from posa_vla.errors import BadInput
from posa_vla.sim.tasks import BOWL_RADIUS, COLOURS, SHAPES, Scene

_GEOM_TYPES = {
    "cube": mujoco.mjtGeom.mjGEOM_BOX,
    "cylinder": mujoco.mjtGeom.mjGEOM_CYLINDER,
    "ball": mujoco.mjtGeom.mjGEOM_SPHERE,
}
# What is not the arm's has names of its own.
_PREFIX = "scene/"
# The renderer draws groups 0 to 2 and leaves the rest out.
_SHOWN, _HIDDEN = 0, 4
# Mass (kg) and principal inertia (kg m2) of any object: the shapes in a slot differ by less than this matters.
_MASS, _INERTIA = 0.05, 2e-5
# Height of the point that the head camera looks at (m), over the middle of the objects.
_HEAD_LOOKS_AT = 0.03
# A bowl is a ring of boards on a floor: how many, and their height and thickness (m).
_BOARDS, _BOARD_HEIGHT, _BOARD_THICKNESS = 12, 0.012, 0.003


@dataclass(frozen=True)
class ObjectSlot:
    """Where the model keeps one object: a free body with a geom for each shape, of which one is active."""

    body: int
    qpos: int
    geoms: dict[str, int]


def read_arm(file: Path) -> Any:
    """Parses an arm's MJCF.

    Raises:
        BadInput: The file is missing or MuJoCo does not accept it.
    """
    if not file.is_file():
        raise BadInput(f"arm model {file} does not exist: `arm.mjcf` is relative to the embodiment file")
    try:
        return mujoco.MjSpec.from_file(str(file))
    except ValueError as error:
        raise BadInput(f"arm model {file} is not MJCF that MuJoCo accepts: {error}") from None


def _add_head_camera(spec: Any, area: TableArea) -> None:
    elevation, distance, fovy = area.camera
    back = np.array([np.cos(elevation), 0, np.sin(elevation)])
    right = np.array([0.0, 1.0, 0.0])
    up = np.cross(back, right)
    quaternion = np.zeros(4)
    mujoco.mju_mat2Quat(quaternion, np.stack([right, up, back], axis=1).reshape(9))
    place = np.array([*area.centre, _HEAD_LOOKS_AT]) + distance * back
    spec.worldbody.add_camera(name="head", pos=place, quat=quaternion, fovy=fovy)


def build_model(arm_file: Path, objects: int, image_size: int, area: TableArea, *, bowl: bool = False) -> Any:
    """Compiles arm, table, light, head camera and object slots into one model.

    Args:
        arm_file: The arm's MJCF.
        objects: Number of object slots.
        image_size: Side of the off-screen buffer (pixels).
        area: Where the objects lie, and how large they are.
        bowl: Whether a bowl is among them.

    Returns:
        `mujoco.MjModel`; the head camera is called `head`.

    Raises:
        BadInput: MuJoCo does not accept the arm, alone or in the scene.
    """
    spec = read_arm(arm_file)
    spec.visual.quality.offsamples = 0
    spec.visual.quality.shadowsize = 0
    spec.visual.quality.numslices = 20
    spec.visual.quality.numstacks = 10
    spec.visual.global_.offwidth = image_size
    spec.visual.global_.offheight = image_size
    spec.visual.headlight.ambient = [0.45, 0.45, 0.45]
    spec.visual.headlight.diffuse = [0.25, 0.25, 0.25]
    spec.visual.headlight.specular = [0, 0, 0]
    _add_head_camera(spec, area)
    # Attached and not added: the arm file's defaults are for the arm alone.
    spec.attach(_surroundings(objects, area, bowl), prefix=_PREFIX, frame=spec.worldbody.add_frame())
    try:
        return spec.compile()
    except ValueError as error:
        raise BadInput(f"arm model {arm_file} does not compile into the scene: {error}") from None


def _surroundings(objects: int, area: TableArea, bowl: bool) -> Any:
    """Table, light, object slots, and a bowl."""
    spec = mujoco.MjSpec()
    world = spec.worldbody
    world.add_light(
        type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL,
        pos=[0.4, 0.6, 1.5],
        dir=[-0.35, -0.35, -0.87],
        diffuse=[0.5, 0.5, 0.5],
        specular=[0.2, 0.2, 0.2],
        castshadow=False,
    )
    world.add_geom(
        name="table",
        type=mujoco.mjtGeom.mjGEOM_BOX,
        size=[0.6, 0.7, 0.02],
        pos=[0.4, 0, -0.02],
        rgba=[0.74, 0.74, 0.74, 1],
        condim=4,
        friction=[0.8, 0.02, 0.001],
    )
    for slot in range(objects):
        body = world.add_body(name=f"object_{slot}", pos=[0.4, 0, 0.1 + 0.1 * slot])
        body.add_freejoint(name=f"object_{slot}")
        body.explicitinertial = True
        body.mass = _MASS
        body.inertia = [_INERTIA] * 3
        body.ipos = [0, 0, 0]
        for shape, size in SHAPES.items():
            body.add_geom(
                name=f"object_{slot}_{shape}",
                type=_GEOM_TYPES[shape],
                size=[*(extent * area.scale for extent in size), 0, 0][:3],
                condim=6,
                friction=[1.0, 0.02, 0.002],
                solref=[0.01, 1],
            )
    if bowl:
        _add_bowl(world, BOWL_RADIUS * area.scale)
    return spec


def _add_bowl(world: Any, radius: float) -> None:
    body = world.add_body(name="bowl", pos=[0.4, 0, 0])
    look = {"rgba": [0.95, 0.95, 0.97, 1], "type": mujoco.mjtGeom.mjGEOM_BOX}
    floor = {**look, "type": mujoco.mjtGeom.mjGEOM_CYLINDER}
    body.add_geom(name="bowl_floor", size=[radius, 0.001, 0], pos=[0, 0, 0.001], **floor)
    for board in range(_BOARDS):
        angle = 2 * np.pi * board / _BOARDS
        body.add_geom(
            name=f"bowl_{board}",
            size=[_BOARD_THICKNESS, radius * np.tan(np.pi / _BOARDS) + _BOARD_THICKNESS, _BOARD_HEIGHT],
            pos=[radius * np.cos(angle), radius * np.sin(angle), _BOARD_HEIGHT],
            quat=[np.cos(angle / 2), 0, 0, np.sin(angle / 2)],
            **look,
        )


def place_bowl(model: Any, scene: Scene) -> None:
    """Puts the bowl of a scene where it says; nothing where it has none."""
    if scene.bowl is not None:
        model.body_pos[model.body(f"{_PREFIX}bowl").id][:2] = scene.bowl


def object_slots(model: Any, objects: int) -> list[ObjectSlot]:
    """The object slots of a model made by `build_model`."""
    slots = []
    for slot in range(objects):
        body = model.body(f"{_PREFIX}object_{slot}").id
        geoms = {shape: model.geom(f"{_PREFIX}object_{slot}_{shape}").id for shape in SHAPES}
        slots.append(ObjectSlot(body, int(model.jnt_qposadr[model.body_jntadr[body]]), geoms))
    return slots


def place_objects(model: Any, qpos: NDArray[np.float64], slots: list[ObjectSlot], scene: Scene) -> None:
    """Shows each object's shape and colour in its slot and writes the objects' poses into `qpos`."""
    for slot, item in zip(slots, scene.objects, strict=True):
        for shape, geom in slot.geoms.items():
            active = shape == item.shape
            model.geom_contype[geom] = model.geom_conaffinity[geom] = int(active)
            model.geom_group[geom] = _SHOWN if active else _HIDDEN
            model.geom_rgba[geom] = (*COLOURS[item.colour], 1.0)
        qpos[slot.qpos : slot.qpos + 3] = item.position
        qpos[slot.qpos + 3 : slot.qpos + 7] = (np.cos(item.yaw / 2), 0, 0, np.sin(item.yaw / 2))


def require_names(model: Any, arm: SimulatedArm, where: str) -> None:
    """Stops where the embodiment names something that the MJCF does not have.

    Raises:
        BadInput: The MJCF lacks a name; the message has the kind of thing, the name and the file.
    """
    kinds = {
        mujoco.mjtObj.mjOBJ_JOINT: ("joint", [*arm.joints, arm.gripper_joint]),
        mujoco.mjtObj.mjOBJ_ACTUATOR: ("actuator", [*arm.actuators, arm.gripper_actuator]),
        mujoco.mjtObj.mjOBJ_SITE: ("site", [arm.end_effector_site]),
    }
    for kind, (word, names) in kinds.items():
        for name in names:
            if mujoco.mj_name2id(model, kind, name) < 0:
                raise BadInput(f"{where}: {arm.mjcf} has no {word} {name!r}")
    if not len(arm.joints) == len(arm.actuators) == len(arm.home):
        raise BadInput(
            f"{where}: {len(arm.joints)} joints, {len(arm.actuators)} actuators and {len(arm.home)} home positions, "
            "expected as many of each"
        )
