"""Columns beside the episode's parts: kept to the last bit where they can be, and never at the cost of the episode."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from exact_datasets import require_exact, taken_exactly
from lerobot_datasets import CAMERA, LENGTHS, add_column, edit_info, make_v21, reader_of
from taking_in import change_table

from posa_vla.dataset.validation.validate import validate
from posa_vla.episodes.foreign.bad_episode import BadEpisode
from posa_vla.episodes.foreign.columns import kept, numbers_of_frames, vector, whole_numbers
from posa_vla.episodes.store.episode_store import EpisodeStore
from posa_vla.errors import BadInput
from posa_vla.files import read_json

NAN = float("nan")
PARTS = ("observation.state", "action")


def of(values: Any, kind: pa.DataType | None = None) -> pa.Table:
    return pa.table({"column": pa.array(values, kind)})


KEPT = [
    # A column, its declared type, and what is kept of it.
    (of([0.5, None, 2.0], pa.float32()), "float32", np.array([[0.5], [NAN], [2]], np.float32)),
    (of([0.1, None]), "float32", np.array([[0.1], [NAN]])),
    (of([None, None], pa.float32()), "float32", np.array([[NAN], [NAN]], np.float32)),
    (of([3, None, 5], pa.int32()), "int32", np.array([[3], [NAN], [5]])),
    (of([Decimal("1.5"), None]), "float64", np.array([[1.5], [NAN]])),
    (of([True, None]), "bool", np.array([[1], [NAN]])),
    (of([[1.0, 2.0], None], pa.list_(pa.float32())), "float32", np.array([[1, 2], [NAN, NAN]], np.float32)),
    (of([[1.0, None], [3.0, 4.0]], pa.large_list(pa.float64())), "float64", np.array([[1, NAN], [3, 4]])),
    # The table's type counts where the declared one would round or cut.
    (of([0.5, 1.5], pa.float32()), "int64", np.array([[0.5], [1.5]], np.float32)),
    (of([0.1, 0.2]), "float32", np.array([[0.1], [0.2]])),
    (of([2**60 + 1]), "float32", np.array([[2**60 + 1]])),
    (of([0.5], pa.float16()), "float16", np.array([[0.5]], np.float32)),
    (of([1.5], pa.float32()), "float64", np.array([[1.5]])),
    (of([7], pa.uint64()), "uint64", np.array([[7]])),
    (of([[True], [False]]), "bool", np.array([[1], [0]])),
    (of([1, 2], pa.int8()).cast(pa.schema({"column": pa.decimal128(5, 2)})), "float64", np.array([[1.0], [2.0]])),
]


@pytest.mark.parametrize(("table", "dtype", "expected"), KEPT)
def test_a_column_is_kept_under_the_type_that_holds_its_every_value(table, dtype, expected):
    values = kept(table, "column", dtype)
    assert values.dtype == expected.dtype
    np.testing.assert_array_equal(values, expected)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (of([[1.0], [1.0, 2.0]]), "rows have between 1 and 2 values"),
        (of([[[1.0, 2.0], [3.0]], [[1.0], [2.0, 3.0]]]), "rows have between 1 and 2 values"),
        (of([[1.0], None, [1.0, 2.0]]), "empty rows, and the others are not of one width"),
        (of(["1", "2"]), "its values are string, expected numbers"),
        (of([{"a": 1}]), "expected numbers"),
        (of([2**63], pa.uint64()), "numbers above 9223372036854775807"),
        (of([None, None]), "empty rows"),
    ],
)
def test_what_cannot_be_kept_is_said_without_the_words_of_a_library(table, message):
    with pytest.raises(BadEpisode, match=message) as error:
        kept(table, "column", "float32")
    assert str(error.value).startswith("column column ")


def test_lists_that_are_ragged_inside_are_no_vector():
    with pytest.raises(BadEpisode, match="between 1 and 2 values"):
        vector(of([[[1.0, 2.0], [3.0, 4.0]], [[1.0], [2.0]]]), "column", np.float32)


@pytest.mark.parametrize(
    ("values", "numbers"),
    [
        (pa.array([3.0, 4.0]), [3, 4]),
        (pa.array([[3], [4]]), [3, 4]),
        (pa.array([3, 4]).dictionary_encode(), [3, 4]),
        (pa.array([3, 4], pa.float16()), [3, 4]),
        (pa.array([3.5, 4.0]), None),
        (pa.array([3, None]), None),
        (pa.array([[3, 4]]), None),
        (pa.array(["3"]), None),
        (pa.array([True]), None),
        (pa.array([NAN]), None),
        (pa.array([1e300]), None),
        (pa.array([], pa.string()), []),
    ],
)
def test_whole_numbers_are_whole_in_whatever_type(values, numbers):
    found = whole_numbers(values)
    assert (None if found is None else found.tolist()) == numbers


@pytest.mark.parametrize(
    ("values", "numbers"),
    [
        (pa.array([3, None]), [3, -1]),
        (pa.array([3.0, NAN]), [3, -1]),
        (pa.array([[3], None]), [3, -1]),
        (pa.array([3, None]).dictionary_encode(), [3, -1]),
        (pa.array([Decimal(3), Decimal(4)]), [3, 4]),
        (pa.array([3.5, None]), None),
        (pa.array([None, None]), None),
        (pa.array(["3", None]), None),
    ],
)
def test_frames_without_a_number_have_none(values, numbers):
    found = numbers_of_frames(pa.table({"task_index": values}), "task_index")
    assert (None if found is None else found.tolist()) == numbers


@pytest.mark.parametrize(("dtype", "value"), [("float32", 0.5), ("int64", 3), ("bool", True)])
def test_empty_rows_of_a_slow_sensor_cost_no_episode_and_stay_empty(tmp_path, dtype, value):
    folder = make_v21(tmp_path / "dataset", video=False)
    add_column(folder, "observation.force", lambda frame: value if frame % 5 == 0 else None, dtype)
    store = EpisodeStore(tmp_path / "store")
    assert require_exact(reader_of(folder), store).remarks == []
    for episode in store.episodes():
        force = episode.extra["observation.force"][:, 0]
        assert np.isfinite(force).tolist() == [frame % 5 == 0 for frame in range(len(episode))]
    assert {"content", "finite"}.isdisjoint(validate(store.root).rules)


def test_a_column_that_cannot_be_kept_is_left_out_and_said_once(tmp_path):
    folder = make_v21(tmp_path / "dataset", video=False)
    add_column(folder, "observation.points", lambda frame: [0.5] * (1 + frame % 3), "float32")
    add_column(folder, "observation.note", "well done", "string")
    store = EpisodeStore(tmp_path / "store")
    remarks = [remark.value for remark in require_exact(reader_of(folder), store).remarks]
    assert remarks == [
        "feature observation.note cannot be kept",
        "column observation.points is no vector of numbers: rows have between 1 and 3 values; it was left out "
        "(this is said once for the dataset)",
    ]
    assert all(episode.extra == {} for episode in store.episodes())
    assert {"content", "finite"}.isdisjoint(validate(store.root).rules)


def test_columns_that_the_metadata_leave_out_are_kept_too(tmp_path):
    folder = make_v21(tmp_path / "dataset", video=False)
    add_column(folder, "observation.force", lambda frame: float(frame))
    add_column(folder, "observation.note", "well done")
    add_column(folder, "__index_level_0__", lambda frame: frame)
    add_column(folder, "observation.images.extra", {"bytes": b"", "path": None})
    store = EpisodeStore(tmp_path / "store")
    done = require_exact(reader_of(folder), store)
    assert [remark.value for remark in done.remarks] == [
        "observation.images.extra holds pictures, and info.json does not declare it: left out",
        "feature observation.note cannot be kept",
    ]
    for number, episode in enumerate(store.episodes()):
        assert set(episode.extra) == {"observation.force"}
        assert episode.extra["observation.force"].ravel().tolist() == list(range(LENGTHS[number]))


def test_a_declared_type_that_nobody_knows_is_what_the_table_shows(tmp_path):
    folder = make_v21(tmp_path / "dataset", video=False)
    add_column(folder, "observation.force", lambda frame: float(frame), "torch.float64")
    store = EpisodeStore(tmp_path / "store")
    assert require_exact(reader_of(folder), store).remarks == []
    assert {episode.extra["observation.force"].dtype.name for episode in store.episodes()} == {"float64"}


@pytest.mark.parametrize("shape", [[7], [4.0], ["four"], []])
def test_how_many_channels_there_are_the_tables_say(tmp_path, shape):
    folder = make_v21(tmp_path / "dataset", video=False)
    features = read_json(folder / "meta/info.json")["features"]
    edit_info(folder, features=features | {name: features[name] | {"shape": shape} for name in PARTS})
    assert taken_exactly(folder) == []


@pytest.mark.parametrize("feature", ["note", CAMERA])
def test_text_and_pictures_are_no_state(tmp_path, feature):
    folder = make_v21(tmp_path / "dataset", video=False)
    add_column(folder, "note", "well done")
    add_column(folder, "flag", True)
    with pytest.raises(BadInput, match=f"{feature} is (string|image), expected numbers for state: .* action, flag, ob"):
        reader_of(folder, f"{feature}=state")


@pytest.mark.parametrize("video", [True, False])
@pytest.mark.parametrize("dtype", ["Video", "image", "video", 3])
def test_pictures_are_where_they_lie_whatever_is_declared(tmp_path, video, dtype):
    folder = make_v21(tmp_path / "dataset", video=video)
    features = read_json(folder / "meta/info.json")["features"]
    features[CAMERA]["dtype"] = dtype
    edit_info(folder, features=features)
    assert reader_of(folder).source.features[CAMERA]["dtype"] == ("video" if video else "image")
    assert taken_exactly(folder) == []


def test_a_camera_that_only_the_folders_know_is_left_out_and_said(tmp_path):
    folder = make_v21(tmp_path / "dataset", cameras=(CAMERA, "observation.images.wrist"))
    features = read_json(folder / "meta/info.json")["features"]
    edit_info(folder, features={name: f for name, f in features.items() if not name.endswith("wrist")})
    assert taken_exactly(folder) == [
        "observation.images.wrist holds pictures, and info.json does not declare it: left out"
    ]


def test_features_that_the_metadata_forget_are_what_their_names_say(tmp_path):
    folder = make_v21(tmp_path / "dataset", video=False)
    features = {"observation.images.cam_high": {"dtype": "image", "shape": [32, 48, 3], "names": None}}
    edit_info(folder, features=features)
    assert taken_exactly(folder) == []


def test_success_that_is_said_of_some_episodes_alone(tmp_path):
    folder = make_v21(tmp_path / "dataset", video=False)
    labels: list[list[Any]] = [
        [False] * (LENGTHS[0] - 1) + [True],
        [NAN] * LENGTHS[1],
        [False] * (LENGTHS[2] - 1) + [None],
    ]
    for number, label in enumerate(labels):
        change_table(folder, number, lambda t, values=label: t.append_column("next.success", pa.array(values)))
    store = EpisodeStore(tmp_path / "store")
    remarks = require_exact(reader_of(folder), store).remarks
    assert [episode.success for episode in store.episodes()] == [True, False, False]
    assert [(remark.episode, remark.value) for remark in remarks] == [
        (1, "its column of success is empty: it counts as not done")
    ]
