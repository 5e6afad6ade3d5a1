"""Collection: the same episodes whatever the number of processes and wherever it was killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from posa_vla.episodes.episode import CameraTrack, Episode
from posa_vla.errors import BadInput, PosaError
from posa_vla.params import CollectParams
from posa_vla.sim.collect import collect
from posa_vla.sim.parts import pictures_bytes, read_part, write_part

# A shell starts its background jobs, and with them these tests, with Ctrl-C ignored: here it shall count.
PROGRAM = """
import signal
import sys
from pathlib import Path
from posa_vla.params import CollectParams
from posa_vla.sim.collect import collect
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    list(collect("sim_arm6", "pick", CollectParams(episodes=400, image_size=32), Path(sys.argv[1]), workers=2))
"""


def same(one: Episode, other: Episode) -> bool:
    arrays = ("state", "action", "end_effector", "gripper")
    return (
        one.scene == other.scene
        and all(np.array_equal(getattr(one, name), getattr(other, name)) for name in arrays)
        and all(
            np.array_equal(getattr(camera, name), getattr(other.cameras[role], name))
            for role, camera in one.cameras.items()
            for name in ("images", "intrinsics", "pose")
        )
    )


def children_of(pid: int) -> list[int]:
    path = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in path.read_text().split()] if path.exists() else []


def wait_until(condition: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "nothing happened in time"
        time.sleep(0.02)


@pytest.mark.fault
def test_a_killed_collection_continues_and_gives_the_same_episodes(tmp_path: Path) -> None:
    script = tmp_path / "run.py"
    script.write_text(PROGRAM)
    parts = tmp_path / "parts"
    run = subprocess.Popen([sys.executable, str(script), str(parts)], stderr=subprocess.DEVNULL)
    wait_until(lambda: len(list(parts.rglob("*.safetensors"))) >= 2)
    workers = children_of(run.pid)
    assert workers
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    wait_until(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers))
    finished = {path: path.stat().st_mtime_ns for path in parts.rglob("[!.]*.safetensors")}

    params = CollectParams(episodes=20, image_size=32)
    continued = list(collect("sim_arm6", "pick", params, parts, workers=2))
    assert all(path.stat().st_mtime_ns == when for path, when in finished.items()), "finished parts were made again"
    fresh = list(collect("sim_arm6", "pick", params, tmp_path / "other", workers=1))
    assert len(continued) == len(fresh) == 20
    assert all(same(a, b) for a, b in zip(continued, fresh, strict=True))
    made = sum(camera.images.nbytes for episode in fresh for camera in episode.cameras.values())
    assert pictures_bytes(params, cameras=2) / 4 < made < pictures_bytes(params, cameras=2)
    seeds = [episode.scene["seed"] for episode in fresh]
    assert seeds == sorted(set(seeds))
    assert seeds[0] < 3
    for episode in fresh:
        episode.check()
        assert episode.success
        assert episode.source == "sim"
        assert episode.embodiment == "sim_arm6"
        assert set(episode.cameras) == {"head", "wrist"}

    # Fewer, then more of the same, are the first ones and some in addition.
    fewer = list(collect("sim_arm6", "pick", params.model_copy(update={"episodes": 5}), parts))
    assert all(same(a, b) for a, b in zip(fewer, fresh, strict=False))
    assert len(fewer) == 5


@pytest.mark.fault
def test_ctrl_c_ends_it_with_its_workers(tmp_path: Path) -> None:
    script = tmp_path / "run.py"
    script.write_text(PROGRAM)
    parts = tmp_path / "parts"
    run = subprocess.Popen([sys.executable, str(script), str(parts)], stderr=subprocess.DEVNULL, start_new_session=True)
    wait_until(lambda: any(parts.rglob("[!.]*.safetensors")))
    workers = children_of(run.pid)
    os.killpg(run.pid, signal.SIGINT)
    run.wait(timeout=60)
    assert run.returncode == -signal.SIGINT
    wait_until(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers))
    for part in parts.rglob("*.safetensors"):
        assert not part.name.startswith("."), "a half-written part was left behind"
        read_part(part)


def test_parts_survive_a_round_trip_and_damage_is_noticed(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)
    episode = Episode(
        embodiment="arm",
        instruction="pick up the réd cube",
        source="sim",
        success=True,
        fps=10,
        cameras={"head": CameraTrack(images, rng.random((4, 4)), rng.random((4, 7))), "wrist": CameraTrack(images)},
        state=rng.random((4, 3), dtype=np.float32),
        action=rng.random((4, 2), dtype=np.float32),
        scene={"seed": 2**40, "objects": [{"position": [0.1, 0.2]}]},
    )
    path = tmp_path / "part.safetensors"
    write_part(path, [episode, episode])
    one, two = read_part(path)
    assert same(one, two)
    assert one.instruction == episode.instruction
    assert one.scene == episode.scene
    np.testing.assert_array_equal(one.cameras["head"].images, images)
    assert one.cameras["wrist"].pose is None
    assert one.gripper is None
    write_part(path, [])
    assert read_part(path) == []
    path.write_bytes(path.read_bytes()[:4])
    with pytest.raises(BadInput, match="delete it and run again"):
        read_part(path)


def test_bad_requests_are_refused_before_work_starts(tmp_path: Path) -> None:
    params = CollectParams(episodes=1, image_size=32)
    with pytest.raises(BadInput, match="did you mean 'pick'"):
        list(collect("sim_arm6", "pck", params, tmp_path))
    with pytest.raises(BadInput, match="neither a shipped one nor a file"):
        list(collect("no_arm", "pick", params, tmp_path))
    with pytest.raises(PosaError, match="scene seeds"):
        list(collect("sim_arm6", "pick", params.model_copy(update={"seed": 2**31 - 3}), tmp_path, workers=1))
    assert not list(tmp_path.iterdir())
