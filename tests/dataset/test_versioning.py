from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from factories import make_embodiment, make_episode

from posa_vla.dataset import versioning
from posa_vla.dataset.loader import PackedDataset
from posa_vla.dataset.versioning import DataVersion, version_data
from posa_vla.dataset.versioning_clone import stages_file
from posa_vla.episodes.store import EpisodeStore
from posa_vla.errors import BadInput
from posa_vla.files import sha256_tree
from posa_vla.params import Params
from posa_vla.schema import parse
from posa_vla.settings import Settings
from posa_vla.workspace import Workspace

DEADLINE = 120.0


def new_workspace(home: Path) -> tuple[Workspace, Params]:
    embodiment = make_embodiment()
    home.mkdir()
    declaration = home / "arm.yaml"
    declaration.write_text(yaml.safe_dump(embodiment.model_dump(mode="json")))
    workspace = Workspace.open(Settings(home=home))
    rng = np.random.default_rng(0)
    EpisodeStore(workspace.store).append([make_episode(rng, size=16) for _ in range(4)], embodiment)
    target = {"embodiment": str(declaration), "task": "pick"}
    values = {"target": "t", "targets": {"t": target}, "prepare": {"validation_fraction": 0.3}}
    return workspace, parse(Params, values, "test")


def environment(home: Path) -> dict[str, str]:
    return {
        **os.environ,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "DVC_NO_ANALYTICS": "1",
        "DVC_SITE_CACHE_DIR": str(home / "dvc-site"),
    }


def run(folder: Path, *command: str) -> str:
    done = subprocess.run(command, cwd=folder, env=environment(folder.parent), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def versioned(tmp_path_factory) -> tuple[Workspace, Params, DataVersion]:
    """A version made after a first attempt was killed in the middle of `dvc repro`."""
    home = tmp_path_factory.mktemp("versioning") / "home"
    workspace, params = new_workspace(home)
    program = (
        "import sys, pathlib\nfrom posa_vla.dataset.versioning import version_data\n"
        "from posa_vla.episodes.embodiment import load_embodiment\n"
        "from posa_vla.params import Params\nfrom posa_vla.settings import Settings\n"
        "from posa_vla.workspace import Workspace\n"
        "params = Params.model_validate_json(sys.stdin.read())\n"
        "version_data(Workspace.open(Settings(home=pathlib.Path(sys.argv[1]))), params,\n"
        "    load_embodiment(params.chosen.embodiment))\n"
    )
    victim = subprocess.Popen(
        [sys.executable, "-c", program, str(home)],
        stdin=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    assert victim.stdin is not None
    victim.stdin.write(params.model_dump_json())
    victim.stdin.close()
    deadline = time.monotonic() + DEADLINE
    # code.json is what the first stage makes: `dvc repro` is then under way.
    while not list(workspace.clones.glob("*/repository/code.json")):
        assert victim.poll() is None, "the victim ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(victim.pid, signal.SIGKILL)
    victim.wait()
    assert not workspace.data.exists()
    assert list(workspace.clones.iterdir())
    return workspace, params, version_data(workspace, params, make_embodiment())


@pytest.mark.slow
@pytest.mark.fault
def test_a_version_is_made_although_the_first_attempt_was_killed(versioned):
    workspace, _, data = versioned
    assert list(workspace.clones.iterdir()) == []
    assert [p.name for p in workspace.data.iterdir()] == [data.version]
    assert len(PackedDataset(data.folder, "train", 2)) + len(PackedDataset(data.folder, "validation", 2)) == data.frames
    assert (data.episodes, data.frames, data.report["quarantined"]) == (4, 48, [])


@pytest.mark.slow
def test_the_history_names_everything_and_holds_no_data(versioned):
    workspace, _, data = versioned
    assert run(workspace.repository, "git", "rev-parse", f"data/{data.version}").strip() == data.commit
    assert run(workspace.repository, "git", "rev-parse", "main").strip() == data.commit
    files = run(workspace.repository, "git", "ls-tree", "-r", "--name-only", "main").split()
    assert {"dvc.yaml", "dvc.lock", "params.yaml", "embodiment.json", "data/episodes.dvc", "data/report.json"} <= set(
        files
    )
    assert not [name for name in files if name.endswith((".parquet", ".safetensors"))]


@pytest.mark.slow
def test_episodes_are_on_the_disk_once_beside_their_remote_copy(versioned):
    workspace, _, _ = versioned
    stored = next(EpisodeStore(workspace.store).root.rglob("*.parquet"))
    inodes = {p.stat().st_ino for p in workspace.dvc_cache.rglob("*") if p.is_file()}
    assert stored.stat().st_ino in inodes


@pytest.mark.slow
def test_the_same_store_again_is_the_same_version_and_no_new_commit(versioned, monkeypatch):
    workspace, params, data = versioned
    before = sha256_tree(data.folder)
    # What a user has configured for git must not matter; this much would stop DVC.
    home = workspace.home.parent / "user"
    home.mkdir()
    (home / ".gitconfig").write_text("[core]\n\texcludesFile = ~/ignored\n[commit]\n\tgpgSign = true\n")
    (home / "ignored").write_text("*.lock\n*.dvc\n*.json\n")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    again = version_data(workspace, params, make_embodiment())
    assert (again.version, again.commit) == (data.version, data.commit)
    assert sha256_tree(again.folder) == before
    monkeypatch.delenv("GIT_DIR")
    assert run(workspace.repository, "git", "rev-list", "--count", "--all").strip() == "1"


@pytest.mark.slow
def test_a_person_can_pull_and_reproduce_by_hand(versioned, tmp_path):
    workspace, _, data = versioned
    checkout = tmp_path / "checkout"
    run(tmp_path, "git", "clone", "--quiet", str(workspace.repository), str(checkout))
    run(checkout, sys.executable, "-m", "dvc", "pull", "--quiet")
    run(checkout, sys.executable, "-m", "dvc", "repro")
    assert sha256_tree(checkout / "data/prepared") == sha256_tree(data.folder)
    assert run(checkout, "git", "status", "--porcelain") == ""


@pytest.mark.slow
@pytest.mark.fault
def test_a_damaged_remote_is_not_pulled(versioned, tmp_path):
    workspace, _, _ = versioned
    remote = tmp_path / "remote"
    shutil.copytree(workspace.dvc_remote, remote)
    largest = max((p for p in remote.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 1
    largest.chmod(0o644)
    largest.write_bytes(bytes(content))
    checkout = tmp_path / "checkout"
    run(tmp_path, "git", "clone", "--quiet", str(workspace.repository), str(checkout))
    config = checkout / ".dvc/config"
    config.write_text(config.read_text().replace(workspace.dvc_remote, str(remote)))
    command = [sys.executable, "-m", "dvc", "pull"]
    done = subprocess.run(command, cwd=checkout, env=environment(tmp_path), capture_output=True, text=True)
    assert done.returncode != 0
    assert "failed to pull data" in done.stderr
    assert not (checkout / "data/episodes").exists()


@pytest.mark.slow
def test_a_stage_that_meets_bad_input_says_so_and_nothing_is_published(tmp_path):
    workspace, params = new_workspace(tmp_path / "home")
    shutil.rmtree(workspace.store)
    embodiment = make_embodiment()
    failed = make_episode(np.random.default_rng(0), size=16, success=False)
    EpisodeStore(workspace.store).append([failed], embodiment)
    with pytest.raises(BadInput, match="no sound, successful episode of embodiment test_arm"):
        version_data(workspace, params, make_embodiment())
    assert not workspace.data.exists()
    assert list(workspace.clones.iterdir()) == []


def test_an_empty_store_is_bad_input(tmp_path):
    workspace, params = new_workspace(tmp_path / "home")
    shutil.rmtree(workspace.store)
    with pytest.raises(BadInput, match="collect or ingest some"):
        version_data(workspace, params, make_embodiment())


def test_a_missing_git_is_bad_input_that_says_what_to_install(tmp_path, monkeypatch):
    workspace, params = new_workspace(tmp_path / "home")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BadInput, match="'git' is not there: install it"):
        version_data(workspace, params, make_embodiment())
    assert not workspace.repository.exists()


def test_the_stages_have_one_home_and_the_wheel_carries_it():
    root = Path(versioning.__file__).parents[2]
    assert stages_file() == root / "dvc.yaml"
    stages = yaml.safe_load((root / "dvc.yaml").read_text())["stages"]
    assert list(stages) == ["code", "validate", "prepare"]
