"""Whatever is wrong with a dataset from outside: it is taken in, kept aside or refused, never a traceback or a hang."""

from __future__ import annotations

import json
import os
import random
import shutil
import zlib
from pathlib import Path
from typing import Any

import av
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lerobot_datasets import CAMERA, add_column, edit_rows, make_v21, make_v30, reader_of, write_table
from videos import moving_picture

from posa_vla.dataset.exchange.ingest import ingest
from posa_vla.dataset.validation.validate import validate
from posa_vla.episodes.foreign.dataset import open_source
from posa_vla.episodes.foreign.fit import require_fit
from posa_vla.episodes.foreign.mapping import derived_embodiment, map_features
from posa_vla.episodes.foreign.reader import SourceReader
from posa_vla.episodes.store.episode_store import EpisodeStore
from posa_vla.errors import BadInput

pytestmark = [pytest.mark.fault, pytest.mark.slow]

KINDS = ("v21-video", "v21-image", "v30-video", "v30-image")
JSON: Any = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False)
    | st.sampled_from(
        ["", "../..", "/etc/passwd", "{x}", "{episode_index:999999999d}", "\x00", "v3.0", "v2.1", "video"]
    )
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=4,
)


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("sound")
    made = {}
    for kind in KINDS:
        make = make_v21 if kind.startswith("v21") else make_v30
        made[kind] = make(folder / kind, video=kind.endswith("video"))
    return made


def taken_in(folder: Path, root: Path) -> None:
    """All that `posa data ingest` does before it versions."""
    store = EpisodeStore(root)
    try:
        source = open_source(folder)
        features = map_features(source, {}, None)
        done = ingest(store, require_fit(SourceReader(source, features, derived_embodiment(source, features))))
    except BadInput:
        return
    assert len(done.episodes) + len(done.kept) <= 3 + 1
    if done.episodes or done.kept:
        report = validate(root)
        assert report.episodes == len(set(done.episodes))
        # What came into a batch can be read from it.
        # A picture that cannot be decoded is found when it is looked at.
        assert not {"content", "batch-readable"} & set(report.rules)


def copied(sound: dict[str, Path], tmp_path_factory, kind: str) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("malformed")
    shutil.copytree(sound[kind], folder / "dataset")
    return folder / "dataset", folder / "store"


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, child in children for place in places(child, (*path, key)))]


def replaced(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    value[path[0]] = replaced(value[path[0]], path[1:], new)
    return value


examples = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))


@examples
@given(kind=st.sampled_from(KINDS), choice=st.integers(0, 10**6), new=JSON)
def test_any_value_in_the_metadata(sound, tmp_path_factory, kind, choice, new):
    folder, root = copied(sound, tmp_path_factory, kind)
    names = [p for p in sorted((folder / "meta").glob("*")) if p.suffix in {".json", ".jsonl"}]
    path = names[choice % len(names)]
    lines = path.read_text().splitlines()
    number = choice % len(lines)
    value = json.loads(lines[number])
    found = places(value)
    lines[number] = json.dumps(replaced(value, found[choice % len(found)], new))
    path.write_text("\n".join(lines))
    taken_in(folder, root)
    shutil.rmtree(folder.parent)


@examples
@given(
    kind=st.sampled_from(KINDS), choice=st.integers(0, 10**6), how=st.sampled_from(["flip", "cut", "remove", "junk"])
)
def test_any_damaged_file(sound, tmp_path_factory, kind, choice, how):
    folder, root = copied(sound, tmp_path_factory, kind)
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    path, draw = files[choice % len(files)], random.Random(choice)
    content = bytearray(path.read_bytes())
    if how == "remove":
        path.unlink()
    elif how == "cut":
        path.write_bytes(content[: draw.randrange(len(content))])
    elif how == "junk":
        path.write_bytes(draw.randbytes(200))
    else:
        for _ in range(3):
            content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        path.write_bytes(content)
    taken_in(folder, root)
    shutil.rmtree(folder.parent)


COLUMNS = [
    pa.nulls(25),
    pa.array([None] * 5 + [[1.0]] * 20),
    pa.array(["text"] * 25),
    pa.array([2**62] * 25, pa.int64()),
    pa.array([-1] * 25, pa.int64()),
    pa.array([[[1.0, 2.0], [3.0, 4.0]]] * 25),
    pa.array([[]] * 25, pa.list_(pa.float32())),
    pa.array([{"bytes": b"\x89PNG", "path": None}] * 25),
    pa.array([{"bytes": None, "path": "../../secret.png"}] * 25),
    pa.array([float("inf")] * 25),
    pa.array([b"x"] * 25),
]


@examples
@given(kind=st.sampled_from(KINDS), choice=st.integers(0, 10**6), column=st.sampled_from(COLUMNS))
def test_any_column_of_a_table(sound, tmp_path_factory, kind, choice, column):
    folder, root = copied(sound, tmp_path_factory, kind)
    # The last table: of one episode with 25 frames, or of all three.
    path = sorted((folder / "data").rglob("*.parquet"))[-1]
    table = pq.read_table(path)
    name = table.column_names[choice % len(table.column_names)]
    values = pa.concat_arrays([column] * -(-len(table) // len(column))).slice(0, len(table))
    write_table(path, table.set_column(table.column_names.index(name), name, values))
    taken_in(folder, root)
    shutil.rmtree(folder.parent)


EPISODES = "meta/episodes/chunk-000/file-000.parquet"


@settings(examples, max_examples=12)
@given(
    kind=st.sampled_from(["v30-video", "v30-image"]),
    choice=st.integers(0, 10**6),
    value=st.sampled_from([None, -1, 2**62, "text", float("nan"), [1], "../..", {"a": 1}]),
)
def test_any_value_in_the_list_of_episodes(sound, tmp_path_factory, kind, choice, value):
    folder, root = copied(sound, tmp_path_factory, kind)
    table = pq.read_table(folder / EPISODES)
    name = table.column_names[choice % len(table.column_names)]
    column = pa.array([value] * len(table))
    write_table(folder / EPISODES, table.set_column(table.column_names.index(name), name, column))
    taken_in(folder, root)
    shutil.rmtree(folder.parent)


@pytest.fixture
def take_in(tmp_path):
    """Takes a dataset in; returns how many episodes came, and rule and value of those that were kept aside."""
    store = EpisodeStore(tmp_path / "store")

    def run(folder: Path) -> tuple[int, list[tuple[str, str]]]:
        done = ingest(store, reader_of(folder))
        kept = store.quarantine.kept()
        assert not {"content", "batch-readable", "episode-readable"} & set(validate(store.root).rules)
        return len(done.episodes), [(kept[key].rule, kept[key].value) for key in done.kept]

    return run


@pytest.mark.parametrize("value", [None, -1, "nothing"])
def test_an_episode_whose_video_the_metadata_do_not_name_is_kept_aside(tmp_path, take_in, value):
    folder = make_v30(tmp_path / "dataset")
    column = pa.array([0, 0, value] if not isinstance(value, str) else [[0], [0], []])
    table = pq.read_table(folder / EPISODES)
    place = table.column_names.index(f"videos/{CAMERA}/chunk_index")
    write_table(folder / EPISODES, table.set_column(place, f"videos/{CAMERA}/chunk_index", column))
    assert take_in(folder) == (2, [("images", f"the metadata do not say where {CAMERA} of episode 2 is")])


@pytest.mark.parametrize(("dtype", "value"), [("float32", float("nan")), ("float64", 1e200), ("float64", float("inf"))])
def test_numbers_besides_that_have_no_statistics_are_kept(tmp_path, take_in, dtype, value):
    folder = make_v21(tmp_path / "dataset", video=False)
    add_column(folder, "observation.effort", lambda frame: value if frame > 3 else 2.0, dtype)
    assert take_in(folder) == (3, [])
    (path,) = (tmp_path / "store").rglob("stats.json")
    effort = json.loads(path.read_text())["observation.effort"]
    assert (effort["min"], effort["max"], effort["mean"], effort["std"]) == ([2.0], [2.0], [2.0], [0.0])


def test_a_header_that_claims_an_enormous_picture_costs_its_episode(tmp_path, take_in):
    folder = make_v21(tmp_path / "dataset", video=False)

    def enlarge(number: int, row: dict[str, Any]) -> None:
        png = bytearray(row[CAMERA]["bytes"])
        png[16:24] = (20_000).to_bytes(4, "big") * 2
        png[29:33] = zlib.crc32(png[12:29]).to_bytes(4, "big")
        row[CAMERA]["bytes"] = bytes(png)

    edit_rows(folder / "data/chunk-000/episode_000001.parquet", enlarge)
    came, ((rule, value),) = take_in(folder)
    assert (came, rule) == (2, "images")
    assert "larger than any camera's" in value


@pytest.mark.parametrize(("codec", "pixels"), [("prores_ks", "yuv422p10le"), ("rawvideo", "yuv420p")])
def test_a_codec_that_the_store_cannot_hold_costs_its_episode(tmp_path, take_in, codec, pixels):
    folder = make_v21(tmp_path / "dataset")
    path = folder / f"videos/chunk-000/{CAMERA}/episode_000001.mp4"
    with av.open(str(path), "w", format="mov") as container:
        stream = container.add_stream(codec, rate=10)
        stream.height, stream.width, stream.pix_fmt = 32, 48, pixels
        for image in moving_picture(30):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    came, ((rule, value),) = take_in(folder)
    assert (came, rule) == (2, "images")
    assert "encode it as AV1 or H.264" in value


def test_half_a_character_is_no_reason_to_stop(tmp_path, take_in):
    folder = make_v21(tmp_path / "dataset", video=False)
    for path in (folder / "meta/episodes.jsonl", folder / "meta/tasks.jsonl"):
        path.write_text(path.read_text().replace("drawer", "\\ud800"))
    (folder / "data/chunk-000/episode_000001.parquet").unlink()
    came, kept = take_in(folder)
    assert (came, [rule for rule, _ in kept]) == (2, ["table"])


@pytest.mark.parametrize(
    "path",
    [
        "meta/info.json",
        "meta/tasks.jsonl",
        "meta/episodes.jsonl",
        "data/chunk-000/episode_000001.parquet",
        f"videos/chunk-000/{CAMERA}/episode_000001.mp4",
        "meta/posa.json",
    ],
)
@pytest.mark.timeout(20)
def test_a_pipe_never_hangs_whoever_reads_it(sound, tmp_path, take_in, path):
    shutil.copytree(sound["v21-video"], tmp_path / "dataset")
    place = tmp_path / "dataset" / path
    place.unlink(missing_ok=True)
    os.mkfifo(place)
    # Without what only the whole dataset has, there is no dataset; else it costs an episode at most.
    if path.endswith(("info.json", ".jsonl")):
        with pytest.raises(BadInput, match="no regular file"):
            take_in(tmp_path / "dataset")
    else:
        came, kept = take_in(tmp_path / "dataset")
        assert (came + len(kept), all("no regular file" in value for _, value in kept)) == (3, True)
