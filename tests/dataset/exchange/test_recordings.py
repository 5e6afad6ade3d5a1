"""A recording that comes again, declared better: one of the two counts, and nothing is lost."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import taking_in
from lerobot_datasets import CAMERA, add_column, make_v21, reader_of, write_table

from posa_vla.dataset.exchange.export import export
from posa_vla.dataset.exchange.ingest import Ingested
from posa_vla.dataset.shards.prepare import prepare
from posa_vla.dataset.validation.validate import validate
from posa_vla.episodes.calibration import load_calibration
from posa_vla.episodes.foreign.fit import recordings_of
from posa_vla.episodes.store.episode_store import EpisodeStore
from posa_vla.errors import BadInput
from posa_vla.files import sha256_tree
from posa_vla.params import PrepareParams

CALIBRATION = (
    "cameras: {head: {intrinsics: {fx: FOCAL, fy: 40, cx: 24, cy: 16, width: 48, height: 32}, "
    "base_from_camera: {position: [0, 0, 4], quaternion: [0, 1, 0, 0]}}}"
)
# The camera was moved before the third episode.
MOVED = CALIBRATION.replace(
    "base_from_camera",
    "later: [{from_episode: 2, intrinsics: {fx: 40, fy: 40, cx: 24, cy: 16, width: 48, height: 32}, "
    "base_from_camera: {position: [0, 0, 5], quaternion: [0, 1, 0, 0]}}], base_from_camera",
)
ALL = PrepareParams(validation_fraction=0, image_size=32)


def take_in(store: EpisodeStore, folder: Path, focal: int | None = None, text: str = CALIBRATION) -> Ingested:
    if focal is None:
        return taking_in.take_in(store, folder)
    place = folder.parent / f"{focal}.yaml"
    place.write_text(text.replace("FOCAL", str(focal)))
    return taking_in.take_in(store, folder, calibration=load_calibration(place, ["head"]))


@pytest.fixture
def store(tmp_path) -> EpisodeStore:
    return EpisodeStore(tmp_path / "store")


def episodes_of(store: EpisodeStore, out: Path) -> tuple[int, int, int]:
    """Counted, prepared and exported."""
    report = validate(store.root)
    (_, reader), *_ = store.readers()
    prepared = prepare(store.root, report, reader.embodiment, ALL, out / "prepared")
    exported = export(store, report, out / "exported")
    return report.episodes, prepared.splits["train"].episodes, exported["episodes"]


def test_a_calibration_that_comes_later_takes_the_place_of_none(tmp_path, store):
    folder = make_v21(tmp_path / "dataset", video=False)
    first = take_in(store, folder)
    later = take_in(store, folder, focal=40)
    assert (later.new, len(set(first.episodes) & set(later.episodes))) == (3, 0)
    assert episodes_of(store, tmp_path) == (3, 3, 3)
    report = validate(store.root)
    assert (report.superseded, later.superseded) == (3, 3)
    found = [f for f in report.findings if f.rule == "superseded"]
    assert {f.digest for f in found} == set(first.episodes)
    assert all("intrinsics.head, pose.head" in f.value for f in found)
    assert not {"near-duplicate", "scene-leakage"} & set(report.rules)
    # Both ways of taking it in again change nothing, and lead to the better one.
    before = sha256_tree(store.root)
    for again in (take_in(store, folder), take_in(store, folder, focal=40)):
        assert (again.new, again.episodes) == (0, later.episodes)
    assert sha256_tree(store.root) == before


def test_without_the_calibration_that_the_store_has_nothing_comes_and_it_is_said(tmp_path, store):
    folder = make_v21(tmp_path / "dataset", video=False)
    first = take_in(store, folder, focal=40)
    later = take_in(store, folder)
    assert (later.new, later.episodes) == (0, first.episodes)
    assert "with intrinsics.head, pose.head" in later.remarks[0].value
    assert [remark.episode for remark in later.remarks] == [0, 1, 2]
    assert len(store.batches()) == 1


def test_of_two_calibrations_the_later_counts_until_its_batch_is_taken_out(tmp_path, store):
    folder = make_v21(tmp_path / "dataset", video=False)
    first, later = take_in(store, folder, focal=40), take_in(store, folder, focal=41)
    assert set(store.replaced()) == set(first.episodes)
    place = store.remove(later.batches[0], "the wrong file")
    assert store.replaced() == {}
    assert episodes_of(store, tmp_path) == (3, 3, 3)
    assert [record.reason for record in store.removed().values()] == ["the wrong file"]
    assert (place / "meta/posa.json").is_file()
    # It may come again, and each may be the later one.
    assert take_in(store, folder, focal=41).new == 3
    assert set(store.replaced()) == set(first.episodes)
    store.remove(first.batches[0], "to be taken in again")
    assert take_in(store, folder, focal=40).episodes == first.episodes
    assert set(store.replaced()) == set(later.episodes)


@pytest.mark.parametrize("earlier", [False, True], ids=["its own", "of what replaced it"])
def test_an_episode_that_a_person_took_out_stays_out_when_its_recording_comes_again(tmp_path, store, earlier):
    folder = make_v21(tmp_path / "dataset", video=False)
    first = take_in(store, folder)
    stored = take_in(store, folder, focal=40) if earlier else first
    store.quarantine.replace(stored.episodes[1], "", "the camera was knocked")
    before = sha256_tree(store.root)
    for focal in (None, 40) if earlier else (None,):
        again = take_in(store, folder, focal=focal)
        assert (again.new, again.superseded, again.episodes) == (0, 0, stored.episodes)
        said = [remark.value for remark in again.remarks if remark.episode == 1]
        decided = f"a person decided that episode {stored.episodes[1][:12]} counts no more: the camera was knocked"
        assert said[-1] == decided
    assert sha256_tree(store.root) == before
    assert episodes_of(store, tmp_path) == (2, 2, 2)


def test_a_calibration_is_taken_back_by_the_earlier_file_and_by_one_that_says_less(tmp_path, store):
    folder = make_v21(tmp_path / "dataset", video=False)
    found = (
        "found: {how: automatic, events: 9, used: 9, sigma: 1, uncertainty: 0.01, covariance: "
        f"{[[0.001 if i == j else 0 for i in range(7)] for j in range(7)]}}}, base_from_camera"
    )
    certain = take_in(store, folder, focal=40)
    doubted = take_in(store, folder, focal=40, text=CALIBRATION.replace("base_from_camera", found))
    # Once the entry `found` is deleted, the covariance is gone with it.
    again = take_in(store, folder, focal=40)
    assert (again.new, again.superseded, again.episodes) == (0, 3, certain.episodes)
    assert set(store.replaced()) == set(doubted.episodes)
    before = sha256_tree(store.root)
    assert take_in(store, folder, focal=40).superseded == 0
    assert sha256_tree(store.root) == before
    assert take_in(store, folder, focal=41).superseded == 3
    assert take_in(store, folder, focal=40).episodes == certain.episodes
    # Without the camera nothing of it is left; without a file, nothing changes.
    bare = take_in(store, folder, focal=40, text="cameras: {}")
    assert (bare.new, bare.superseded) == (3, 3)
    assert episodes_of(store, tmp_path) == (3, 3, 3)
    assert take_in(store, folder).episodes == bare.episodes


def test_what_comes_without_calibration_leaves_the_stored_one_and_says_so_whatever_else_it_adds(tmp_path, store):
    folder = make_v21(tmp_path / "dataset", video=False)
    first = take_in(store, folder, focal=40)
    add_column(folder, "next.success", lambda frame: True, "bool")
    later = take_in(store, folder)
    assert (later.new, later.episodes) == (0, first.episodes)
    assert "with intrinsics.head, pose.head, which counts (for extra.next.success" in later.remarks[0].value
    assert take_in(store, folder, focal=40).superseded == 3
    later = take_in(store, folder)
    assert (later.new, "counts" in later.remarks[0].value) == (0, True)


def test_a_moved_camera_s_stretches_are_of_the_dataset_that_they_were_found_on(tmp_path, store, capsys):
    folder = make_v21(tmp_path / "dataset", video=False)
    said = "not which dataset's episodes"
    take_in(store, folder, focal=40, text=MOVED)
    assert said in " ".join(capsys.readouterr().err.split())
    known = recordings_of(reader_of(folder))

    def tied(episodes: dict[int, str]) -> str:
        return f"{MOVED}\nepisodes: {json.dumps({str(n): digest for n, digest in episodes.items()})}"

    # Since the cameras were found, the dataset was recorded further.
    assert take_in(store, folder, focal=40, text=tied({0: known[0], 1: known[1]})).new == 0
    assert said not in " ".join(capsys.readouterr().err.split())
    swapped = tied({0: known[0], 1: known[2], 2: known[1]})
    with pytest.raises(BadInput, match=r"episode 1 is another recording \(of 3 episodes, 2 differ\)"):
        take_in(store, folder, focal=40, text=swapped)
    with pytest.raises(BadInput, match="episode 3 is not there"):
        take_in(store, folder, focal=40, text=tied(known | {3: known[0]}))


def test_every_stretch_is_calibrated_for_pictures_of_this_shape(tmp_path, store):
    folder = make_v21(tmp_path / "dataset", video=False)
    with pytest.raises(BadInput, match="camera head from episode 2 on"):
        take_in(
            store,
            folder,
            focal=40,
            text=MOVED.replace(
                "width: 48, height: 32}, base_from_camera: {position: [0, 0, 5",
                "width: 48, height: 48}, base_from_camera: {position: [0, 0, 5",
            ),
        )
    assert store.batches() == []


def test_words_that_were_missing_are_supplied_and_others_make_another_episode(tmp_path, store):
    folder = make_v21(tmp_path / "dataset", video=False)
    tasks, rows = folder / "meta/tasks.jsonl", folder / "meta/episodes.jsonl"
    words = [path.read_text() for path in (tasks, rows)]
    tasks.unlink()
    rows.unlink()
    take_in(store, folder)
    assert len(validate(store.root).quarantined) == 3
    tasks.write_text(words[0])
    rows.write_text(words[1])
    take_in(store, folder)
    assert (validate(store.root).quarantined, validate(store.root).superseded) == ([], 3)
    tasks.write_text(words[0].replace("red", "green"))
    rows.write_text(words[1].replace("red", "green"))
    assert take_in(store, folder).new == 2
    assert (validate(store.root).episodes, validate(store.root).superseded) == (5, 3)


def test_a_kept_episode_is_settled_once_it_can_be_read_and_another_datasets_is_not(tmp_path, store):
    folder = make_v21(tmp_path / "one/dataset")
    missing = folder / f"videos/chunk-000/{CAMERA}/episode_000001.mp4"
    shutil.move(missing, tmp_path / "kept.mp4")
    done = take_in(store, folder)
    assert [row.batch for row in validate(store.root).quarantined] == done.kept
    # Another dataset of this name says nothing of it.
    take_in(store, make_v21(tmp_path / "two/dataset", seed=500))
    assert len(validate(store.root).quarantined) == 1
    shutil.move(tmp_path / "kept.mp4", missing)
    assert take_in(store, folder).new == 1
    report = validate(store.root)
    assert (report.quarantined, report.unreadable, report.episodes) == ([], 0, 6)
    assert set(store.quarantine.kept()) == set(done.kept)


def test_an_odd_episode_of_two_mistakes_has_two_entries_and_both_are_settled(tmp_path, store):
    folder = make_v21(tmp_path / "dataset")
    path = folder / "data/chunk-000/episode_000001.parquet"
    table = pq.read_table(path)
    write_table(path, table.drop(["action"]))
    take_in(store, folder)
    write_table(path, table.set_column(1, "action", pa.array([["x"]] * len(table))))
    take_in(store, folder)
    assert len(validate(store.root).quarantined) == 2
    write_table(path, table)
    take_in(store, folder)
    assert validate(store.root).quarantined == []
