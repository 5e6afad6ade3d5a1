from __future__ import annotations

import contextlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from factories import make_embodiment, make_episode
from hypothesis import given, settings
from hypothesis import strategies as st

from posa_vla.episodes.content import episode_digest
from posa_vla.episodes.episode import Episode
from posa_vla.episodes.lerobot.reader import DatasetReader, read_episodes, write_dataset
from posa_vla.errors import BadInput, PosaError
from posa_vla.files import read_json, write_json

EMBODIMENT = make_embodiment()


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def dataset(tmp_path, rng) -> Path:
    tasks = ["pick up the red cube", "pick up the blue ball", "pick up the red cube"]
    episodes = [make_episode(rng, frames=5 + i, size=16, instruction=task) for i, task in enumerate(tasks)]
    write_dataset(tmp_path / "dataset", episodes, EMBODIMENT)
    return tmp_path / "dataset"


def data_file(dataset: Path) -> Path:
    return dataset / "data/chunk-000/file-000.parquet"


@settings(max_examples=15, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.lists(st.integers(1, 5), min_size=1, max_size=3),
    st.sampled_from([("head",), ("head", "wrist")]),
    st.booleans(),
    st.text(min_size=1, max_size=8).filter(lambda t: t.isprintable()),
)
def test_episodes_come_back_bit_for_bit(tmp_path_factory, seed, lengths, cameras, calibrated, instruction):
    rng = np.random.default_rng(seed)
    written = [
        make_episode(
            rng, frames=n, size=8, cameras=cameras, calibrated=calibrated, instruction=instruction, success=n % 2 == 0
        )
        for n in lengths
    ]
    folder = tmp_path_factory.mktemp("roundtrip") / "dataset"
    write_dataset(folder, written, make_embodiment(cameras=cameras))
    assert [episode_digest(e) for e in read_episodes(folder)] == [episode_digest(e) for e in written]


def test_layout_is_that_of_lerobot_v3(dataset):
    info = read_json(dataset / "meta/info.json")
    assert info["codebase_version"] == "v3.0"
    assert (info["total_episodes"], info["total_frames"], info["total_tasks"]) == (3, 18, 2)
    assert info["splits"] == {"train": "0:3"}
    assert info["features"]["observation.images.head"]["dtype"] == "image"
    assert info["features"]["observation.state"] == {"dtype": "float32", "shape": [3], "names": ["x", "y", "z"]}
    file = pq.ParquetFile(data_file(dataset))
    assert file.num_row_groups == 3
    assert set(file.schema_arrow.names) == set(info["features"])
    assert file.schema_arrow.field("observation.images.head").type == pa.struct(
        [("bytes", pa.binary()), ("path", pa.string())]
    )
    table = file.read()
    assert table["index"].to_pylist() == list(range(18))
    assert table["episode_index"].to_pylist() == [0] * 5 + [1] * 6 + [2] * 7
    assert table["task_index"].to_pylist() == [0] * 5 + [1] * 6 + [0] * 7
    np.testing.assert_allclose(table["timestamp"].to_numpy()[:5], np.arange(5) / 10, atol=1e-6)
    rows = pq.read_table(dataset / "meta/episodes/chunk-000/file-000.parquet").to_pylist()
    assert [(r["dataset_from_index"], r["dataset_to_index"]) for r in rows] == [(0, 5), (5, 11), (11, 18)]
    assert rows[1]["tasks"] == ["pick up the blue ball"]


def test_instructions_are_the_pandas_index_of_the_task_table(dataset):
    pandas = pytest.importorskip("pandas")
    tasks = pandas.read_parquet(dataset / "meta/tasks.parquet")
    assert tasks.loc["pick up the blue ball"].task_index == 1
    assert list(tasks.columns) == ["task_index"]


def test_statistics_are_those_of_the_frames(tmp_path, rng):
    episodes = [make_episode(rng, frames=n, size=8) for n in (4, 9)]
    write_dataset(tmp_path / "d", episodes, EMBODIMENT)
    stats = read_json(tmp_path / "d/meta/stats.json")
    state = np.concatenate([e.state for e in episodes])
    np.testing.assert_allclose(stats["observation.state"]["mean"], state.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(stats["observation.state"]["std"], state.std(axis=0), atol=1e-6)
    np.testing.assert_allclose(stats["observation.state"]["max"], state.max(axis=0), atol=1e-6)
    assert stats["observation.state"]["count"] == [13]
    assert np.shape(stats["observation.images.head"]["mean"]) == (3, 1, 1)
    assert 0.4 < np.mean(stats["observation.images.head"]["mean"]) < 0.6


def test_a_data_file_is_closed_at_the_size_limit_and_all_are_read(tmp_path, rng):
    episodes = [make_episode(rng, frames=60, size=64) for _ in range(4)]
    write_dataset(tmp_path / "d", episodes, EMBODIMENT, data_file_mb=2)
    assert len(list((tmp_path / "d/data").rglob("*.parquet"))) == 2
    assert [episode_digest(e) for e in read_episodes(tmp_path / "d")] == [episode_digest(e) for e in episodes]


def test_one_episode_is_in_memory_at_a_time(tmp_path, rng):
    import weakref

    alive: list[weakref.ref[Episode]] = []

    def episodes():
        for _ in range(4):
            assert sum(ref() is not None for ref in alive) <= 1
            episode = make_episode(rng, frames=2, size=8)
            alive.append(weakref.ref(episode))
            yield episode
            del episode

    write_dataset(tmp_path / "d", episodes(), EMBODIMENT)


def test_a_writer_that_fails_leaves_no_dataset(tmp_path, rng):
    def episodes():
        yield make_episode(rng, frames=3, size=8)
        raise RuntimeError("camera unplugged")

    with pytest.raises(RuntimeError, match="unplugged"):
        write_dataset(tmp_path / "d", episodes(), EMBODIMENT)
    assert list(tmp_path.iterdir()) == []


def test_no_episodes_are_bad_input(tmp_path):
    with pytest.raises(BadInput, match="no episodes"):
        write_dataset(tmp_path / "d", [], EMBODIMENT)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda e: replace(e, fps=5.0), "differs from the ones before it in fps"),
        (lambda e: replace(e, gripper=None), "observation.gripper"),
        (lambda e: replace(e, embodiment="other"), "embodiment 'other', expected 'test_arm'"),
        (lambda e: replace(e, state=e.state[:, :2]), "declares 3 channels: x, y, z"),
        (lambda e: replace(e, cameras={"head": e.cameras["head"]}), "cameras"),
        (lambda e: replace(e, action=e.action[:-1]), "action is"),
        (lambda e: replace(e, scene={"seed": object()}), "scene holds something that is not JSON"),
        (lambda e: replace(e, state=np.full_like(e.state, np.nan)), "not finite at frame 0"),
    ],
)
def test_an_episode_that_does_not_fit_is_named(tmp_path, rng, change, message):
    first = make_episode(rng, frames=3, size=8)
    with pytest.raises(BadInput, match=message):
        write_dataset(tmp_path / "d", [first, change(make_episode(rng, frames=3, size=8))], EMBODIMENT)
    assert not (tmp_path / "d").exists()


FILES = [
    "meta/info.json",
    "meta/posa.json",
    "meta/episodes/chunk-000/file-000.parquet",
    "data/chunk-000/file-000.parquet",
]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["missing", "empty", "cut"])
def test_an_interrupted_dataset_is_bad_input(dataset, name, damage):
    path = dataset / name
    content = path.read_bytes()
    path.unlink()
    if damage != "missing":
        path.write_bytes(b"" if damage == "empty" else content[: len(content) // 2])
    with pytest.raises(BadInput, match=Path(name).name.replace(".", r"\.")):
        list(read_episodes(dataset))


def edit(dataset: Path, name: str, **changes: object) -> None:
    value = read_json(dataset / name)
    write_json(dataset / name, value | changes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: edit(d, "meta/info.json", total_episodes=4), "incomplete: info.json counts 4 episodes"),
        (lambda d: edit(d, "meta/info.json", total_frames=4), "counts 4 frames, the episodes 18"),
        (lambda d: edit(d, "meta/info.json", codebase_version="v2.1"), "version 'v2.1', expected 'v3.0'"),
        (lambda d: edit(d, "meta/info.json", fps="fast"), "metadata is not readable"),
        (lambda d: edit(d, "meta/info.json", features=None), "metadata is not readable"),
        (
            lambda d: edit(d, "meta/info.json", data_path="data/{nothing}.parquet"),
            "has {nothing}, expected chunk_index",
        ),
        (lambda d: edit(d, "meta/posa.json", episodes=[]), "posa.json 0"),
        (lambda d: edit(d, "meta/posa.json", sucess=True), "unknown key sucess"),
        (lambda d: shutil.rmtree(d), "is not a folder"),
    ],
)
def test_metadata_that_disagrees_is_bad_input(dataset, change, message):
    change(dataset)
    with pytest.raises(BadInput, match=message):
        list(read_episodes(dataset))


@pytest.mark.parametrize("path", ["/etc/{chunk_index}{file_index}", "../{chunk_index}/{file_index}.parquet"])
def test_metadata_cannot_lead_out_of_the_folder(dataset, path):
    edit(dataset, "meta/info.json", data_path=path)
    with pytest.raises(PosaError, match="only paths inside the folder"):
        list(read_episodes(dataset))


def test_a_data_file_of_another_dataset_is_noticed(dataset, tmp_path, rng):
    write_dataset(tmp_path / "other", [make_episode(rng, frames=9, size=16)], EMBODIMENT)
    shutil.copy(data_file(tmp_path / "other"), data_file(dataset))
    with pytest.raises(BadInput, match="row group 0 has 9 rows, episode 0 5 frames"):
        list(read_episodes(dataset))


def rewrite(dataset: Path, change) -> None:
    file = pq.ParquetFile(data_file(dataset))
    groups = [change(file.read_row_group(i)) for i in range(file.num_row_groups)]
    with pq.ParquetWriter(data_file(dataset), groups[0].schema) as writer:
        for group in groups:
            writer.write_table(group)


def with_column(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, values)


def test_vectors_stored_as_lists_of_any_length_are_read(dataset):
    before = [episode_digest(e) for e in read_episodes(dataset)]
    rewrite(dataset, lambda t: with_column(t, "action", pa.array(t["action"].to_pylist(), pa.list_(pa.float32()))))
    assert [episode_digest(e) for e in read_episodes(dataset)] == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: with_column(t, "action", pa.array([[1.0]] * len(t), pa.list_(pa.float32()))), "a column is not"),
        (lambda t: with_column(t, "action", pa.array(["up"] * len(t))), "a column is not"),
        (lambda t: with_column(t, "observation.images.head", pa.array([b""] * len(t))), "a column is not"),
        (lambda t: t.drop_columns(["timestamp"]), "disagree about the columns timestamp"),
    ],
)
def test_columns_that_are_not_what_was_declared_are_bad_input(dataset, change, message):
    rewrite(dataset, change)
    with pytest.raises(BadInput, match=message):
        list(read_episodes(dataset))


def test_more_channels_than_the_embodiment_declares_are_bad_input(dataset):
    posa = read_json(dataset / "meta/posa.json")
    posa["embodiment"]["action"].pop()
    write_json(dataset / "meta/posa.json", posa)
    with pytest.raises(BadInput, match="declares 1 channels"):
        list(read_episodes(dataset))


@pytest.mark.fault
@settings(max_examples=25, deadline=None)
@given(st.data())
def test_a_flipped_byte_never_gives_a_traceback(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("flip") / "dataset"
    write_dataset(folder, [make_episode(np.random.default_rng(1), frames=3, size=8)], EMBODIMENT)
    path = folder / data.draw(st.sampled_from(FILES))
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(bytes(content))
    with contextlib.suppress(PosaError):
        list(read_episodes(folder))


def test_a_reader_knows_lengths_without_reading_frames(dataset):
    data_file(dataset).unlink()
    reader = DatasetReader(dataset)
    assert [record.length for record in reader.records] == [5, 6, 7]
    assert json.dumps(reader.features)
