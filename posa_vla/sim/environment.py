"""The Gymnasium environment of a task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from posa_vla.errors import BadInput
from posa_vla.params import PerturbParams, Wording
from posa_vla.seeds import COLLECTION_SEEDS
from posa_vla.sim.gl import require_gl
from posa_vla.sim.success import lifts, succeeded
from posa_vla.sim.tasks import WITH_BOWL, Kinds, Scene, require_task, sample_scene

if TYPE_CHECKING:
    from posa_vla.sim.simulation import Simulation


class TaskEnvironment(gymnasium.Env[dict[str, Any], NDArray[np.float32]]):
    """A task in simulation; a seed fixes the scene exactly.

    Observations are `{"images": {role: uint8 (H, W, 3)}, "state": float32 (S,)}`, actions float32 (A,) in the
    embodiment's units, clipped to its limits. `info` of `reset` and `step`:

    - `success` bool; `instruction` str;
    - `end_effector` float64 (7,) and `gripper` float (0 closed to 1 open), measured, base frame;
    - `cameras` role -> `{"intrinsics": float64 (4,), "pose": float64 (7,)}`, see `SceneCameras.calibration`;
    - `scene` JSON values that describe the scene;
    - `privileged` `{"objects": float64 (N, 3) centres in m, "target": int, "held": bool, "lift": float m}`.

    An episode terminates on success and is truncated after `max_steps`.
    """

    def __init__(
        self,
        simulation: Simulation,
        task: str,
        *,
        objects: int,
        max_steps: int,
        perturb: PerturbParams | None = None,
        kinds: Kinds | None = None,
        wording: Wording = "trained",
    ) -> None:
        self.simulation = simulation
        self.embodiment = simulation.embodiment
        self.task = task
        self._objects = objects
        self._max_steps = max_steps
        self._kinds = kinds
        self._wording = wording
        self._scene: Scene | None = None
        self._steps = 0
        self._perturbation = (
            simulation.perturbation(perturb) if perturb is not None and perturb != PerturbParams() else None
        )
        self._perturbed: dict[str, Any] = {}
        self._low, self._high = self.embodiment.action_limits()
        self.action_space = gymnasium.spaces.Box(self._low, self._high, dtype=np.float32)
        pictures: dict[str, gymnasium.Space[Any]] = {
            role: gymnasium.spaces.Box(0, 255, (*simulation.cameras.shape(camera.source), 3), np.uint8)
            for role, camera in self.embodiment.cameras.items()
        }
        state = gymnasium.spaces.Box(-np.inf, np.inf, (len(self.embodiment.state),), np.float32)
        images = gymnasium.spaces.Dict(pictures)
        self.observation_space = gymnasium.spaces.Dict({"images": images, "state": state})

    @property
    def scene(self) -> Scene:
        """The scene of the running episode.

        Raises:
            BadInput: `reset` was not called.
        """
        if self._scene is None:
            raise BadInput("the environment has no scene yet: call reset(seed=...) first")
        return self._scene

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Starts the episode of a seed; without one, of a random seed."""
        super().reset(seed=seed)
        if seed is None:
            seed = int(self.np_random.integers(COLLECTION_SEEDS.stop))
        self._scene = sample_scene(
            self.task, int(seed), self._objects, self._kinds, self._wording, self.simulation.area
        )
        self._steps = 0
        if self._perturbation is not None:
            self._perturbed = {"perturbed": self._perturbation.apply(int(seed))}
        self.simulation.reset(self._scene)
        return self._observe(), self._info()

    def step(self, action: NDArray[np.float32]) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Applies one action for one control period.

        Raises:
            BadInput: The action has another shape than (A,), or is not finite.
        """
        action = np.asarray(action, dtype=np.float32)
        if action.shape != self.action_space.shape or not np.isfinite(action).all():
            raise BadInput(f"action {action.tolist()}, expected {self.action_space.shape} finite numbers")
        self.simulation.apply(np.clip(action, self._low, self._high))
        self._steps += 1
        info = self._info()
        success = bool(info["success"])
        return self._observe(), float(success), success, self._steps >= self._max_steps and not success, info

    def _observe(self) -> dict[str, Any]:
        simulation = self.simulation
        images = {
            role: simulation.cameras.render(simulation.data, camera.source)
            for role, camera in self.embodiment.cameras.items()
        }
        return {"images": images, "state": simulation.state()}

    def _info(self) -> dict[str, Any]:
        simulation, scene = self.simulation, self.scene
        centres = np.stack([simulation.object_position(i) for i in range(self._objects)])
        held, lift = lifts(simulation, scene)[0]
        return {
            "success": succeeded(simulation, scene),
            "instruction": scene.instruction,
            "end_effector": simulation.end_effector_pose(),
            "gripper": simulation.gripper_opening(),
            "cameras": {
                role: simulation.cameras.calibration(simulation.data, camera.source)
                for role, camera in self.embodiment.cameras.items()
            },
            "scene": {**scene.to_json(), **self._perturbed},
            "privileged": {"objects": centres, "target": scene.target, "held": held, "lift": lift},
        }

    def close(self) -> None:
        """Frees the renderer."""
        self.simulation.close()


def make_environment(
    embodiment: str,
    task: str,
    *,
    image_size: int,
    objects: int,
    max_steps: int,
    perturb: PerturbParams | None = None,
    kinds: Kinds | None = None,
    wording: Wording = "trained",
) -> TaskEnvironment:
    """An environment of a task for an embodiment.

    Args:
        embodiment: A shipped embodiment's name or the path of an embodiment file.
        task: A task of `posa_vla.sim.tasks`.
        image_size: Longer side of the images (pixels); the embodiment says their shape.
        objects: Objects on the table, the target among them.
        max_steps: Control steps after which an episode is truncated.
        perturb: How much scenes look otherwise than usual; not at all if None.
        kinds: Shapes and colours that objects may have; any if None.
        wording: How instructions are worded, see `EvaluateParams.wording`.

    Raises:
        BadInput: Unknown task, an embodiment that cannot be simulated, or no OpenGL library.
    """
    require_task(task)
    require_gl()
    from posa_vla.sim.simulation import Simulation

    simulation = Simulation(embodiment, objects, image_size, bowl=task in WITH_BOWL)
    return TaskEnvironment(
        simulation, task, objects=objects, max_steps=max_steps, perturb=perturb, kinds=kinds, wording=wording
    )
