"""Whatever is wrong with a dataset from outside: it is taken in, kept aside or refused, never a traceback or a hang."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lerobot_datasets import make_v21, make_v30, write_table

from posa_vla.dataset.ingest import ingest
from posa_vla.dataset.validate import validate
from posa_vla.episodes.lerobot_source import open_source
from posa_vla.episodes.mapping import derived_embodiment, map_features
from posa_vla.episodes.source_episode import SourceReader
from posa_vla.episodes.store import EpisodeStore
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
        done = ingest(store, SourceReader(source, features, derived_embodiment(source, features)))
    except BadInput:
        return
    assert len(done.episodes) + len(done.kept) <= 3 + 1
    if done.episodes or done.kept:
        report = validate(root)
        assert report["episodes"] == len(set(done.episodes))
        # What came into a batch can be read from it.
        # A picture that cannot be decoded is found when it is looked at.
        assert not {"content", "batch-readable"} & set(report["rules"])


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


examples = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


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
