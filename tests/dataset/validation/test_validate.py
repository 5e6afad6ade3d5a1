from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from factories import make_embodiment, make_episode

from posa_vla.dataset.shards.prepare import prepare
from posa_vla.dataset.validation.findings import remedy_of, severity_of
from posa_vla.dataset.validation.report import Quarantined, read_report
from posa_vla.dataset.validation.validate import validate
from posa_vla.episodes.embodiment import Embodiment
from posa_vla.episodes.episode import Episode
from posa_vla.episodes.store.episode_store import EpisodeStore
from posa_vla.errors import BadInput
from posa_vla.files import read_json, write_json
from posa_vla.params import PrepareParams
from posa_vla.schema import parse
from posa_vla.validation_params import ValidateParams

EMBODIMENT = make_embodiment()
ALL = PrepareParams(validation_fraction=0)


def good(seed: int = 0, **options: object) -> Episode:
    return make_episode(np.random.default_rng(seed), size=16, **options)  # type: ignore[arg-type]  # a test names them


def store_of(folder: Path, *episodes: Episode) -> EpisodeStore:
    store = EpisodeStore(folder / "store")
    store.append(episodes, EMBODIMENT)
    return store


def with_state(value: float) -> Episode:
    episode = good(1)
    state = episode.state.copy()
    state[:, 1] = value * np.minimum(np.arange(len(state)) / 3, 1)
    return replace(episode, state=state)


def blind() -> Episode:
    episode = good(1)
    assert episode.end_effector is not None
    away = episode.end_effector + np.array([5.0, 0, 0, 0, 0, 0, 0])
    cameras = {}
    for role, camera in episode.cameras.items():
        assert camera.pose is not None
        pose = camera.pose.copy()
        pose[:, 0] = 0
        cameras[role] = replace(camera, pose=pose)
    return replace(episode, end_effector=away, cameras=cameras)


def quarantined(batch: str, episode: int | None) -> Quarantined:
    return Quarantined(batch=batch, episode=episode)


@pytest.mark.parametrize(
    ("episode", "rule", "frame", "value"),
    [
        (lambda: good(1, instruction="  "), "instruction", None, "empty"),
        (lambda: good(1, success=False), "success", None, "not done"),
        (lambda: good(1, close_at=None), "gripper-event", None, "neither opens nor closes"),
        (lambda: with_state(1.2), "limits", 3, "state y is 1.2 m, limits -1 to 1"),
        (lambda: with_state(57.3), "limits-nonsense", 3, "state y is 57.3 m"),
        (blind, "target-in-view", 6, "no camera sees"),
    ],
)
def test_a_fault_is_found_once_and_the_good_episode_beside_it_is_not_blamed(tmp_path, episode, rule, frame, value):
    store = store_of(tmp_path, good(), episode())
    report = validate(store.root)
    assert report.rules == {rule: 1}
    (finding,) = report.findings
    assert (finding.rule, finding.batch, finding.episode) == (rule, store.batches()[0], 1)
    assert finding.frame == frame
    assert value in finding.value
    assert finding.remedy == remedy_of(rule)
    severe = severity_of(ValidateParams(), rule) == "severe"
    assert report.quarantined == ([quarantined(store.batches()[0], 1)] if severe else [])


def test_sound_episodes_have_no_findings(tmp_path):
    report = validate(store_of(tmp_path, good(0), good(1), good(2, frames=7)).root)
    assert (report.episodes, report.frames, report.findings) == (3, 31, [])


def test_values_at_and_a_little_beyond_a_limit_are_sound(tmp_path):
    assert validate(store_of(tmp_path, with_state(1.0), with_state(-1.03)).root).findings == []


def test_an_empty_store_is_bad_input(tmp_path):
    with pytest.raises(BadInput, match="holds no episodes"):
        validate(tmp_path)


def rewrite(store: EpisodeStore, change) -> None:
    """Changes the stored table of the second episode."""
    path = store.folder(store.batches()[0]) / "data/chunk-000/file-000.parquet"
    file = pq.ParquetFile(path)
    groups = [file.read_row_group(i) for i in range(file.num_row_groups)]
    groups[1] = change(groups[1])
    with pq.ParquetWriter(path, groups[0].schema) as writer:
        for group in groups:
            writer.write_table(group)


def replaced(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    return table.set_column(table.column_names.index(name), table.schema.field(name), values)


@pytest.mark.parametrize(
    ("change", "rules"),
    [
        (
            lambda t: replaced(t, "timestamp", pa.array(np.arange(len(t)) / 9.0, pa.float32())),
            {"timestamps", "content"},
        ),
        (lambda t: replaced(t, "observation.gripper", pa.array(np.full(len(t), 0.5), pa.float32())), {"content"}),
        (lambda t: replaced(t, "observation.gripper", pa.array([None] * len(t), pa.float32())), {"episode-readable"}),
        (
            lambda t: replaced(t, "observation.gripper", pa.array(np.full(len(t), np.nan), pa.float32())),
            {"episode-readable"},
        ),
        (lambda t: t.slice(0, len(t) - 1), {"episode-readable"}),
    ],
)
def test_stored_values_that_changed_quarantine_their_episode(tmp_path, change, rules):
    store = store_of(tmp_path, good(0), good(1), good(2))
    rewrite(store, change)
    report = validate(store.root)
    assert set(report.rules) == rules
    assert report.quarantined == [quarantined(store.batches()[0], 1)]
    manifest = prepare(store.root, report, EMBODIMENT, ALL, tmp_path / "out")
    assert manifest.splits["train"].episodes == 2


def test_a_batch_that_cannot_be_opened_is_left_out_as_a_whole(tmp_path):
    store = store_of(tmp_path, good(0))
    broken = store.append([good(1)], EMBODIMENT)
    (store.folder(broken) / "meta/info.json").unlink()
    report = validate(store.root)
    assert report.quarantined == [quarantined(broken, None)]
    assert prepare(store.root, report, EMBODIMENT, ALL, tmp_path / "out").splits["train"].episodes == 1
    assert store.folder(broken).is_dir()


def test_failures_and_other_robots_are_not_imitated(tmp_path):
    store = store_of(tmp_path, good(0), good(1, success=False))
    store.append([good(2, embodiment="other_arm")], make_embodiment(name="other_arm"))
    manifest = prepare(store.root, validate(store.root), EMBODIMENT, ALL, tmp_path / "out")
    assert manifest.splits["train"].episodes == 1
    assert manifest.source_digest == store.digest()


def test_nothing_to_learn_from_is_bad_input(tmp_path):
    store = store_of(tmp_path, good(0, success=False))
    with pytest.raises(BadInput, match="no sound, successful episode of embodiment test_arm"):
        prepare(store.root, validate(store.root), EMBODIMENT, ALL, tmp_path / "out")


def test_a_report_of_another_store_is_refused(tmp_path):
    store = store_of(tmp_path, good(0))
    report = validate(store.root)
    store.append([good(1)], EMBODIMENT)
    with pytest.raises(BadInput, match="validate` again"):
        prepare(store.root, report, EMBODIMENT, ALL, tmp_path / "out")


def changed_embodiment(**changes: object) -> Embodiment:
    declared = EMBODIMENT.model_dump()
    declared["state"][0] |= changes
    return parse(Embodiment, declared, "test")


def test_an_embodiment_whose_numbers_mean_something_else_is_refused(tmp_path):
    store = store_of(tmp_path, good(0))
    report = validate(store.root)
    with pytest.raises(BadInput, match="had other state"):
        prepare(store.root, report, changed_embodiment(unit="mm"), ALL, tmp_path / "out")
    wider = changed_embodiment(high=2)
    manifest = prepare(store.root, report, wider, ALL, tmp_path / "out")
    assert manifest.embodiment.state[0].high == 2


def test_a_report_survives_json(tmp_path):
    report = validate(store_of(tmp_path, good(0, instruction="")).root)
    write_json(tmp_path / "report.json", report.model_dump(mode="json"))
    assert read_report(tmp_path / "report.json") == report
    cut = {key: value for key, value in read_json(tmp_path / "report.json").items() if key != "quarantined"}
    write_json(tmp_path / "report.json", cut)
    with pytest.raises(BadInput, match=r"report\.json: quarantined: Field required"):
        read_report(tmp_path / "report.json")
