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

from posa_vla.code_root import CODE_ROOT, PACKAGE
from posa_vla.dataset.shards.loader import PackedDataset
from posa_vla.dataset.validation.report import read_report
from posa_vla.dataset.versions.checkout import prepared_data
from posa_vla.dataset.versions.clone import open_clone
from posa_vla.dataset.versions.make import version_data
from posa_vla.dataset.versions.record import DataVersion
from posa_vla.episodes.lerobot.layout import DATA_FILE_MB
from posa_vla.episodes.store.episode_store import EpisodeStore
from posa_vla.errors import BadInput, PosaError
from posa_vla.files import sha256_tree
from posa_vla.params import Params
from posa_vla.schema import parse
from posa_vla.settings import Settings
from posa_vla.target_params import Where
from posa_vla.workspace import Workspace
from posa_vla.workspace_template import template_file

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
        "import sys, pathlib\nfrom posa_vla.dataset.versions.make import version_data\n"
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
    packed = [PackedDataset(workspace.home / data.folder, split, 2) for split in ("train", "validation")]
    assert sum(len(dataset) for dataset in packed) == data.frames
    assert (data.episodes, data.frames) == (4, 48)
    assert read_report(workspace.reports / data.version / "report.json").quarantined == []


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
    before = sha256_tree(workspace.home / data.folder)
    # What a user has configured for git must not matter; this much would stop DVC.
    home = workspace.home.parent / "user"
    home.mkdir()
    (home / ".gitconfig").write_text("[core]\n\texcludesFile = ~/ignored\n[commit]\n\tgpgSign = true\n")
    (home / "ignored").write_text("*.lock\n*.dvc\n*.json\n")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    again = version_data(workspace, params, make_embodiment())
    assert (again.version, again.commit) == (data.version, data.commit)
    assert sha256_tree(workspace.home / again.folder) == before
    monkeypatch.delenv("GIT_DIR")
    assert run(workspace.repository, "git", "rev-list", "--count", "--all").strip() == "1"


@pytest.mark.slow
@pytest.mark.long
def test_a_person_can_pull_and_reproduce_by_hand(versioned, tmp_path):
    workspace, _, data = versioned
    checkout = tmp_path / "checkout"
    run(tmp_path, "git", "clone", "--quiet", str(workspace.repository), str(checkout))
    run(checkout, sys.executable, "-m", "dvc", "pull", "--quiet")
    run(checkout, sys.executable, "-m", "dvc", "repro")
    assert sha256_tree(checkout / "data/prepared") == sha256_tree(workspace.home / data.folder)
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
@pytest.mark.fault
def test_a_push_brings_what_dvc_takes_for_pushed(versioned):
    workspace, _, _ = versioned
    remote = Path(workspace.dvc_remote)
    before = sha256_tree(remote)
    lost, cut = sorted((p for p in remote.glob("files/md5/*/*") if p.suffix != ".dir"), key=lambda p: p.name)[:2]
    lost.unlink()
    cut.chmod(0o644)
    cut.write_bytes(cut.read_bytes()[:-1])
    with open_clone(workspace) as clone:
        clone.push()
    assert sha256_tree(remote) == before
    # What is nowhere must not become a version.
    lost.unlink()
    cached = workspace.dvc_cache / lost.relative_to(remote)
    content = cached.read_bytes()
    cached.unlink()
    with open_clone(workspace) as clone, pytest.raises(PosaError, match="and the cache has no sound copy"):
        clone.push()
    for place in (lost, cached):
        place.write_bytes(content)


@pytest.mark.fault
def test_two_clones_publish_one_on_top_of_the_other(tmp_path):
    workspace, _ = new_workspace(tmp_path / "home")
    with open_clone(workspace) as one, open_clone(workspace) as two:
        for name, clone in (("a", one), ("b", two)):
            clone.git("add", "--all")
            clone.git("commit", "--quiet", "--allow-empty", "--message", name)
        assert one.publish("a") == "data-v1"
        assert two.publish("b") == "data-v2"
    assert run(workspace.repository, "git", "log", "--format=%s", "main").split() == ["b", "a"]


@pytest.mark.fault
def test_a_repository_that_takes_nothing_says_why_and_blames_nobody(tmp_path):
    workspace, _ = new_workspace(tmp_path / "home")
    with open_clone(workspace) as clone:
        clone.git("add", "--all")
        clone.git("commit", "--quiet", "--message", "first")
        run(workspace.repository, "git", "config", "receive.maxInputSize", "1")
        with pytest.raises(PosaError, match="exceeds maximum allowed size") as caught:
            clone.publish("a")
    assert "other runs" not in str(caught.value)


def test_objects_do_not_grow_with_episodes(tmp_path):
    """Object stores are slow and dear by the object: a million frames are fewer than 10,000."""
    store, embodiment, rng = EpisodeStore(tmp_path), make_embodiment(), np.random.default_rng(0)
    counts = []
    for episodes in (4, 40):
        batch = store.append([make_episode(rng, size=16) for _ in range(episodes)], embodiment)
        counts.append(sum(path.is_file() for path in store.folder(batch).rglob("*")))
    assert counts[0] == counts[1] < 10
    # A file more only where one is full (DATA_FILE_MB); frames of 500 kB, pictures and all, would still be below.
    full = 1_000_000 * 0.5 / DATA_FILE_MB
    assert full + counts[0] < 10_000


@pytest.mark.slow
@pytest.mark.long
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


def test_what_is_prepared_again_is_prepared_by_the_stage_of_that_version(versioned):
    workspace, _, data = versioned
    with open_clone(workspace, data.commit) as clone:
        assert {"data", "prepare", "--out", "data/prepared"} <= set(clone.stage_command("prepare"))
        program = "import pathlib, posa_vla; pathlib.Path('made').write_text(posa_vla.__file__)"
        stages = {"prepare": {"cmd": f'python -c "{program}"'}}
        (clone.folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
        clone.run_stage("prepare", CODE_ROOT)
        assert (clone.folder / "made").read_text() == str(PACKAGE / "__init__.py")
        with pytest.raises(PosaError, match="has no stage 'validate', only prepare: check out the code"):
            clone.run_stage("validate", CODE_ROOT)


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
    root = CODE_ROOT
    assert template_file("dvc.yaml") == root / "dvc.yaml"
    stages = yaml.safe_load((root / "dvc.yaml").read_text())["stages"]
    assert list(stages) == ["code", "validate", "prepare"]


@pytest.mark.slow
def test_two_filters_on_one_store_are_two_versions_and_each_comes_back_as_it_was(versioned):
    workspace, params, _ = versioned
    rng, embodiment = np.random.default_rng(7), make_embodiment()
    EpisodeStore(workspace.store).append([make_episode(rng, size=16, source="teleop") for _ in range(3)], embodiment)
    params = params.model_copy(update={"prepare": params.prepare.model_copy(update={"validation_fraction": 0.0})})
    everything = version_data(workspace, params, embodiment)
    teleop = version_data(workspace, params, embodiment, Where(source=["teleop"]))
    assert (everything.episodes, teleop.episodes) == (7, 3)
    assert version_data(workspace, params, embodiment, Where(source=["teleop"])) == teleop
    shutil.rmtree(workspace.home / teleop.folder)
    version, folder = prepared_data(workspace, teleop.name)
    assert (version.record.version, folder) == (teleop.version, workspace.home / teleop.folder)
    assert len(version.record.episodes) == 7, "a version has the whole store"
