"""Tasks and their scenes: what lies where, which object is meant, and in which words."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posa_vla.episodes.embodiment import TableArea
from posa_vla.errors import BadInput, did_you_mean
from posa_vla.params import Wording
from posa_vla.sim.instructions import instruction

# Plain, far apart in hue, none near the table's grey.
COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (0.9, 0.1, 0.1),
    "green": (0.1, 0.7, 0.15),
    "blue": (0.1, 0.25, 0.95),
    "yellow": (1.0, 0.85, 0.0),
    "purple": (0.6, 0.1, 0.75),
}
# Half extents as MuJoCo takes them (m). The silhouettes differ: flat and square, tall and thin, round.
SHAPES: dict[str, tuple[float, ...]] = {
    "cube": (0.02, 0.02, 0.02),
    "cylinder": (0.018, 0.03),
    "ball": (0.024,),
}
# The open gripper fits between two objects whose centres are this far apart (m).
MIN_DISTANCE = 0.09
# A target held this far (m) above where it lay is picked up.
LIFT_HEIGHT = 0.06
# Inner radius (m) of the bowl that objects are put into, beside those of `sim_arm6`.
BOWL_RADIUS = 0.055


@dataclass(frozen=True)
class SceneObject:
    """An object on the table.

    Attributes:
        shape: Key of `SHAPES`.
        colour: Key of `COLOURS`.
        position: Resting centre (m, base frame).
        yaw: Rotation about the vertical (rad).
    """

    shape: str
    colour: str
    position: tuple[float, float, float]
    yaw: float

    @property
    def name(self) -> str:
        """Colour and shape in words."""
        return f"{self.colour} {self.shape}"


@dataclass(frozen=True)
class Scene:
    """Everything a seed decides.

    Attributes:
        task: Name of the task.
        seed: Seed that the scene was drawn from.
        objects: What lies on the table.
        target: Index of the object that is meant.
        instruction: The task in words.
        start_offset: Displacement (m, base frame) of the end-effector's first position from home.
        equals: Indices of objects that are as right as the target, being the same in words and looks.
        bowl: Centre of the bowl (x, y) (m, base frame), where the task has one.
    """

    task: str
    seed: int
    objects: tuple[SceneObject, ...]
    target: int
    instruction: str
    start_offset: tuple[float, float, float]
    equals: tuple[int, ...] = ()
    bowl: tuple[float, float] | None = None

    def to_json(self) -> dict[str, Any]:
        """JSON values that describe the scene; task, seed and object count fix it again."""
        return {
            "task": self.task,
            "seed": self.seed,
            "instruction": self.instruction,
            "target": self.target,
            "objects": [
                {"shape": o.shape, "colour": o.colour, "position": list(o.position), "yaw": o.yaw} for o in self.objects
            ],
            "start_offset": list(self.start_offset),
            **({"equals": list(self.equals)} if self.equals else {}),
            **({"bowl": list(self.bowl)} if self.bowl else {}),
        }


@dataclass(frozen=True)
class Kinds:
    """Which colours and shapes scenes are made of.

    Attributes:
        held_out: Names ("red ball") that no scene holds.
        targets: Names that the target is one of, be they held out or not; any other if empty.
    """

    held_out: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()


def rest_height(shape: str, scale: float = 1.0) -> float:
    """Height (m) of a shape's centre above the table it lies on."""
    return SHAPES[shape][-1] * scale


def _scatter(rng: np.random.Generator, count: int, area: TableArea, *, bowl: bool = False) -> NDArray[np.float64]:
    """Points (count, 2) in the area, no two closer than the gripper needs; a crowded draw is thrown away whole.

    The last one is the bowl's middle, where there is one: the others are so much farther from it as the bowl is wide.
    """
    needed = np.full((count, count), MIN_DISTANCE * area.scale)
    if bowl:
        needed[:, -1] += BOWL_RADIUS * area.scale
    while True:
        points = np.array(area.centre) + rng.uniform(-area.half_width, area.half_width, (count, 2))
        gaps = np.linalg.norm(points[:, None] - points[None], axis=-1)
        if (gaps >= needed)[np.triu_indices(count, 1)].all():
            return points


def _pick(
    seed: int,
    objects: int,
    allowed: Kinds,
    wording: Wording,
    area: TableArea,
    *,
    task: str = "pick",
    twins: bool = False,
    bowl: bool = False,
) -> Scene:
    rng = np.random.default_rng([0, seed])
    kinds = [kind for kind in itertools.product(SHAPES, COLOURS) if _name(kind) not in allowed.held_out]
    chosen = [kinds[index] for index in rng.permutation(len(kinds))[:objects]]
    points = _scatter(rng, objects + bowl, area, bowl=bowl)
    yaws = [float(rng.uniform(-0.35, 0.35)) for _ in chosen]
    target = int(rng.integers(objects))
    offset = rng.uniform((-0.03, -0.03, -0.02), (0.03, 0.03, 0.02)) * area.scale
    if allowed.targets:
        wanted = _kind(allowed.targets[int(rng.integers(len(allowed.targets)))])
        chosen = [chosen[target] if kind == wanted else kind for kind in chosen]
        chosen[target] = wanted
    equals = ((target + 1) % objects,) if twins else ()
    for index in equals:
        chosen[index] = chosen[target]
    placed = tuple(
        SceneObject(shape, colour, (float(x), float(y), rest_height(shape, area.scale)), yaw)
        for (shape, colour), (x, y), yaw in zip(chosen, points[:objects], yaws, strict=True)
    )
    others = [thing.name for thing in placed if thing.name != placed[target].name]
    if wording == "contrasted" and not others:
        raise BadInput(f"wording 'contrasted' names another object, and among {objects} there is none: add objects")
    return Scene(
        task=task,
        seed=seed,
        objects=placed,
        target=target,
        instruction=instruction(task, wording, seed, placed[target].name, others),
        start_offset=(float(offset[0]), float(offset[1]), float(offset[2])),
        equals=equals,
        bowl=(float(points[-1, 0]), float(points[-1, 1])) if bowl else None,
    )


def _pick_either(seed: int, objects: int, allowed: Kinds, wording: Wording, area: TableArea) -> Scene:
    """Two of the objects are the same, and either is right; which one the expert takes depends on the seed alone."""
    if objects < 2:
        raise BadInput(f"task pick_either has two equal objects: {objects} object asked for, expected 2 to 6")
    return _pick(seed, objects, allowed, wording, area, task="pick_either", twins=True)


def _pick_place(seed: int, objects: int, allowed: Kinds, wording: Wording, area: TableArea) -> Scene:
    """The target has to be put into a bowl."""
    return _pick(seed, objects, allowed, wording, area, task="pick_place", bowl=True)


def _name(kind: tuple[str, str]) -> str:
    return f"{kind[1]} {kind[0]}"


def _kind(name: str) -> tuple[str, str]:
    colour, _, shape = name.partition(" ")
    return shape, colour


TASKS: dict[str, Callable[[int, int, Kinds, Wording, TableArea], Scene]] = {
    "pick": _pick,
    "pick_either": _pick_either,
    "pick_place": _pick_place,
}
# Tasks with a bowl on the table.
WITH_BOWL = ("pick_place",)


def make_kinds(held_out: Sequence[str], targets: Sequence[str] = (), objects: int = 1) -> Kinds:
    """Checks names of colours and shapes.

    Raises:
        BadInput: Something else is named, or too few kinds are left for a scene of `objects`.
    """
    names = [_name(kind) for kind in itertools.product(SHAPES, COLOURS)]
    for name in [*held_out, *targets]:
        if name not in names:
            raise BadInput(f"unknown object {name!r}; {did_you_mean(name, names)}")
    if len(set(names) - set(held_out)) < objects:
        raise BadInput(f"{len(set(held_out))} kinds of object are held out, too few are left for {objects} in a scene")
    return Kinds(tuple(held_out), tuple(targets))


def require_task(task: str) -> None:
    """Stops at an unknown task.

    Raises:
        BadInput: The task is unknown; the message names the closest known one.
    """
    if task not in TASKS:
        raise BadInput(f"unknown task {task!r}; {did_you_mean(task, TASKS)}")


def sample_scene(
    task: str,
    seed: int,
    objects: int,
    kinds: Kinds | None = None,
    wording: Wording = "trained",
    area: TableArea | None = None,
) -> Scene:
    """The scene of a task and a seed.

    Args:
        task: Key of `TASKS`.
        seed: Any non-negative integer.
        objects: Objects on the table, the target among them.
        kinds: Shapes and colours that objects may have; any if None.
        wording: How the instruction is worded, see `EvaluateParams.wording`; nothing else of the scene follows from it.
        area: Of the arm's table; that of `sim_arm6` if None.

    Raises:
        BadInput: Unknown task, negative seed, more objects than fit (6), or no other object for a wording that names
            one.
    """
    require_task(task)
    if seed < 0:
        raise BadInput(f"scene seed {seed} is negative, expected 0 or more")
    if not 1 <= objects <= 6:
        raise BadInput(f"{objects} objects asked for, expected 1 to 6")
    return TASKS[task](seed, objects, kinds or Kinds(), wording, area or TableArea())
