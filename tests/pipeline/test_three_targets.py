"""One store with recordings of three robots, and a target of each: none takes what is another's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from candidates import make_workspace
from factories import make_embodiment, make_episode
from untrained import arm_params

from flows.form import NO_CHANGES, resolve
from posa_vla.cli.doctor.records import look_at_records
from posa_vla.dataset.shards.manifest import read_manifest
from posa_vla.dataset.versions.checkout import prepared_data
from posa_vla.episodes.store.episode_store import EpisodeStore
from posa_vla.model.posa_policy import initial_policy_files
from posa_vla.pipeline.context import open_context
from posa_vla.pipeline.offline_evaluation import compare_offline
from posa_vla.pipeline.proposal import store_state
from posa_vla.pipeline.records import Candidate, Registered, Trained
from posa_vla.pipeline.retention import clean_up
from posa_vla.pipeline.steps.decide import decide
from posa_vla.pipeline.steps.offline import offline
from posa_vla.pipeline.steps.register import register
from posa_vla.pipeline.steps.version import version
from posa_vla.pipeline.target import require_target
from posa_vla.policy.made_for import made_for
from posa_vla.release.bundle import build_bundle
from posa_vla.workspace import Workspace

CAMERAS = {"left": ("head",), "right": ("head", "wrist"), "lift": ("wrist",)}
Made = tuple[Workspace, Path, dict[str, Registered]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Workspace, parameter file, and what was registered for each target."""
    folder = tmp_path_factory.mktemp("three")
    workspace, rng = make_workspace(folder), np.random.default_rng(0)
    store, targets = EpisodeStore(workspace.store), {}
    for name, cameras in CAMERAS.items():
        embodiment = make_embodiment(cameras=cameras, name=name).model_copy(update={"simulated": False})
        path = folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump(embodiment.model_dump(mode="json")))
        targets[name] = {"embodiment": str(path), "task": "tidy", "evidence": ["offline", "robot"]}
        for source in ("teleop", "deployment"):
            episodes = [make_episode(rng, size=32, cameras=cameras, embodiment=name, source=source) for _ in range(4)]
            store.append(episodes, embodiment)
    targets["right"]["data"] = {"where": {"source": "teleop"}}
    params = arm_params(
        targets={"t": targets["left"], **targets}, prepare={"image_size": 32, "validation_fraction": 0.4}
    )
    file = folder / "params.yaml"
    file.write_text(yaml.safe_dump(params.model_dump(mode="json") | {"target": "left"}))
    registered = {}
    for name in CAMERAS:
        chosen = resolve(None, name, NO_CHANGES, str(file))
        require_target(workspace, chosen)
        with open_context(workspace, chosen, "test", jobs=False) as context:
            data = version(context)
            files = folder / f"files-{name}"
            files.mkdir()
            initial_policy_files(workspace.home / data.folder, chosen, files, seed=0)
            bundle = build_bundle(files, workspace.bundles, made_for(chosen, chosen.model.flow_steps))
            candidate = Candidate(source=Trained(data=data, key=name * 8, seconds=1.0), digest=bundle.digest)
            registered[name] = register(context, decide(context, offline(context, candidate)))
    return workspace, file, registered


@pytest.mark.slow
def test_each_target_has_data_model_and_verdict_of_its_own(made: Made) -> None:
    workspace, _, registered = made
    assert {name: done.model_version for name, done in registered.items()} == dict.fromkeys(CAMERAS, "1")
    assert {done.decided.verdict for done in registered.values()} == {"no decision"}
    folders = {name: workspace.home / done.decided.evaluated.candidate.data.folder for name, done in registered.items()}
    assert len(set(folders.values())) == 3
    for name, folder in folders.items():
        manifest = read_manifest(folder)
        assert (manifest.embodiment.id, tuple(manifest.cameras)) == (name, CAMERAS[name])
        assert sum(split.episodes for split in manifest.splits.values()) == (4 if name == "right" else 8)


@pytest.mark.slow
def test_a_proposal_counts_what_is_new_for_its_own_target(made: Made) -> None:
    workspace, file, _ = made
    states = {name: store_state(workspace, resolve(None, name, NO_CHANGES, str(file))) for name in CAMERAS}
    assert {name: (state.usable, state.new) for name, state in states.items()} == {
        "left": (8, 0),
        "right": (4, 0),
        "lift": (8, 0),
    }


@pytest.mark.slow
def test_a_clean_up_keeps_what_any_target_needs_and_all_records_are_read(made: Made) -> None:
    workspace, file, registered = made
    retention = resolve(None, "left", NO_CHANGES, str(file)).retention
    kept = {(item.store, item.name): item.kept for item in clean_up(workspace, retention, dry_run=True)}
    for done in registered.values():
        candidate = done.decided.evaluated.candidate
        assert kept["prepared", candidate.data.version]
        assert kept["bundles", candidate.digest]
    assert look_at_records(workspace).status == "sound"


@pytest.mark.slow
def test_the_data_of_each_come_back_by_the_filter_that_made_them(made: Made, tmp_path: Path) -> None:
    workspace, file, registered = made
    data = registered["right"].decided.evaluated.candidate.data
    place = workspace.home / data.folder
    place.rename(tmp_path / "lost")
    done = compare_offline(workspace, resolve(None, "right", NO_CHANGES, str(file)), tmp_path / "out")
    assert done.evidence.embodiment == "right"
    assert prepared_data(workspace, data.name)[1] == place
