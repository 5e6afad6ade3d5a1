"""Calibration agrees with what is drawn: projected geometry lies where the renderer puts it."""

from __future__ import annotations

from collections.abc import Iterator

import mujoco
import numpy as np
import pytest
from numpy.typing import NDArray

from posa_vla.geometry import project
from posa_vla.sim.environment import TaskEnvironment, make_environment
from posa_vla.sim.simulation import Simulation

SIZE = 128


@pytest.fixture(scope="module")
def detailed() -> Iterator[TaskEnvironment]:
    made = make_environment("sim_arm6", "pick", image_size=SIZE, objects=3, max_steps=60)
    yield made
    made.close()


def outline(renderer: mujoco.Renderer, simulation: Simulation, camera: str, geom: int) -> NDArray[np.int64]:
    """First column and row, last column and row plus one, of a geom drawn with everything else left out."""
    groups = simulation.model.geom_group.copy()
    simulation.model.geom_group[:] = 4
    simulation.model.geom_group[geom] = 0
    renderer.update_scene(simulation.data, camera)
    simulation.model.geom_group[:] = groups
    pixels = renderer.render()
    rows, columns = np.nonzero((pixels[..., 1] == mujoco.mjtObj.mjOBJ_GEOM) & (pixels[..., 0] == geom))
    return np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])


def surface(model: mujoco.MjModel, data: mujoco.MjData, geom: int) -> NDArray[np.float64]:
    """Points (N, 3) whose hull is the geom, base frame."""
    size, kind = model.geom_size[geom], model.geom_type[geom]
    turn = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    if kind == mujoco.mjtGeom.mjGEOM_BOX:
        local = np.array(np.meshgrid(*[(-s, s) for s in size])).reshape(3, -1).T
    elif kind == mujoco.mjtGeom.mjGEOM_CYLINDER:
        ring = np.stack([size[0] * np.cos(turn), size[0] * np.sin(turn)], axis=1)
        local = np.concatenate([np.c_[ring, np.full(60, s * size[1])] for s in (-1, 1)])
    else:
        tilt = np.linspace(0, np.pi, 30)[:, None]
        parts = (np.sin(tilt) * np.cos(turn), np.sin(tilt) * np.sin(turn), np.cos(tilt) + 0 * turn)
        local = size[0] * np.stack(parts, axis=-1).reshape(-1, 3)
    placed: NDArray[np.float64] = local @ data.geom_xmat[geom].reshape(3, 3).T + data.geom_xpos[geom]
    return placed


def active_geoms(simulation: Simulation) -> list[int]:
    objects = [g for slot in simulation.slots for g in slot.geoms.values() if simulation.model.geom_contype[g]]
    return objects + [simulation.model.geom(name).id for name in ("left_pad", "right_pad")]


@pytest.mark.parametrize("role", ["head", "wrist"])
def test_drawn_outlines_match_projected_ones(detailed: TaskEnvironment, role: str) -> None:
    simulation, compared = detailed.simulation, 0
    source = detailed.embodiment.cameras[role].source
    with mujoco.Renderer(simulation.model, SIZE, SIZE) as renderer:
        renderer.enable_segmentation_rendering()
        for seed in range(6):
            _, info = detailed.reset(seed=seed)
            for _ in range(seed):
                _, _, _, _, info = detailed.step(np.array([0.01, -0.012, 0.012, 0.3], np.float32))
            camera = info["cameras"][role]
            for geom in active_geoms(simulation):
                points = surface(simulation.model, simulation.data, geom)
                shown = project(points, camera["intrinsics"], camera["pose"], SIZE, SIZE)
                if not shown.visible.all():
                    continue
                wanted = np.concatenate([shown.pixels.min(axis=0), shown.pixels.max(axis=0)])
                drawn = outline(renderer, simulation, source, geom)
                np.testing.assert_allclose(drawn, wanted, atol=1.0, err_msg=f"seed {seed} geom {geom}")
                compared += 1
    assert compared >= 10


def test_the_end_effector_is_midway_between_the_fingertips_and_in_view(detailed: TaskEnvironment) -> None:
    simulation = detailed.simulation
    for seed in range(10):
        _, info = detailed.reset(seed=seed)
        pads = [
            surface(simulation.model, simulation.data, simulation.model.geom(f"{s}_pad").id) for s in ("left", "right")
        ]
        tips = np.concatenate([pad[pad[:, 2] < pad[:, 2].mean()] for pad in pads])
        tip = tips.mean(axis=0)
        np.testing.assert_allclose(info["end_effector"][:2], tip[:2], atol=1e-3)
        assert 0.005 < info["end_effector"][2] - tip[2] < 0.015
        for camera in info["cameras"].values():
            assert project(info["end_effector"][:3], camera["intrinsics"], camera["pose"], SIZE, SIZE).visible


def test_the_head_camera_sees_all_objects_large_enough(detailed: TaskEnvironment) -> None:
    for seed in range(10):
        _, info = detailed.reset(seed=seed)
        camera = info["cameras"]["head"]
        shown = project(info["privileged"]["objects"], camera["intrinsics"], camera["pose"], SIZE, SIZE)
        assert shown.visible.all()
    edges = np.array([[0.41, -0.02, 0.02], [0.41, 0.02, 0.02]])
    pixels = project(edges, camera["intrinsics"], camera["pose"], SIZE, SIZE).pixels
    assert np.linalg.norm(pixels[1] - pixels[0]) * 64 / SIZE > 6.5
