"""What is stored of a video that many episodes share: each has its own pictures, or is quarantined."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest
from lerobot_datasets import CAMERA, FPS, edit_info, edit_rows, make_v21
from shared_videos import first_pictures, make_shared, numbered_pictures, set_edits, shared_file, stored_numbers
from taking_in import take_in
from videos import write_video

from posa_vla.episodes.store.episode_store import EpisodeStore

LENGTHS = [7 + 3 * number % 11 for number in range(14)]
# The clock of files at 10 pictures/s: ticks in a picture.
TICKS = 1024


@pytest.fixture
def store(tmp_path) -> EpisodeStore:
    return EpisodeStore(tmp_path / "store")


def own(lengths=LENGTHS, listed=None):
    """The pictures that each episode must have."""
    firsts = first_pictures(lengths).tolist()
    return {k: list(range(firsts[k], firsts[k] + n)) for k, n in enumerate(lengths) if listed is None or k in listed}


def regular(number, first, frames):
    return first / FPS, (first + frames) / FPS


def drifting(step):
    return lambda number, first, frames: (first / FPS + step * number, (first + frames) / FPS + step * (number + 1))


@pytest.mark.parametrize(
    ("times", "rate", "codec"),
    [
        (regular, Fraction(10_000, 990), "libx264"),
        (regular, Fraction(10_000, 990), "mpeg4"),
        (drifting(10e-3), Fraction(FPS), "libx264"),
        (drifting(-3e-3), Fraction(FPS), "mpeg4"),
    ],
)
def test_where_episodes_fill_a_file_their_order_says_which_pictures_are_whose(tmp_path, store, times, rate, codec):
    folder = make_shared(
        tmp_path / "dataset", LENGTHS, lambda *e: (max(times(*e)[0], 0), times(*e)[1]), rate=rate, codec=codec
    )
    done = take_in(store, folder)
    assert stored_numbers(store, LENGTHS) == own()
    (remark,) = done.remarks
    assert "placed by their order" in remark.value
    assert done.kept == []


def test_a_rate_that_is_nominal_places_by_number_where_episodes_are_missing(tmp_path, store):
    listed = [*range(1, 6), *range(9, 14)]
    folder = make_shared(tmp_path / "dataset", LENGTHS, regular, rate=Fraction(10_000, 990), listed=listed)
    done = take_in(store, folder)
    assert stored_numbers(store, LENGTHS) == own(listed=listed)
    (remark,) = done.remarks
    assert "10.101/s, and starts in the metadata are numbers of pictures divided by 10" in remark.value


def test_where_order_says_nothing_a_small_offset_is_said_and_a_drift_towards_half_a_frame_is_quarantined(
    tmp_path, store
):
    listed = range(13)
    folder = make_shared(tmp_path / "dataset", LENGTHS, drifting(9e-3), listed=listed)
    done = take_in(store, folder)
    found = stored_numbers(store, LENGTHS)
    # 9 % of a frame an episode: episode 5 begins 45 % beside its picture, and episode 11 looks right again.
    assert found == own(listed=range(5))
    kept = [store.quarantine.kept()[key] for key in done.kept]
    assert sorted(k.episode for k in kept) == list(range(5, 13))
    assert "its frames cannot be told from a neighbour's; correct from_timestamp" in kept[0].value
    assert [(r.episode, "beside the picture" in r.value) for r in done.remarks] == [(k, True) for k in range(1, 5)]


def test_an_end_at_the_last_frame_is_one_remark(tmp_path, store):
    folder = make_shared(tmp_path / "dataset", LENGTHS[:4], lambda k, first, n: (first / FPS, (first + n - 1) / FPS))
    done = take_in(store, folder)
    assert stored_numbers(store, LENGTHS) == own(LENGTHS[:4])
    (remark,) = done.remarks
    assert "to_timestamp is the time of the last frame" in remark.value


def test_no_end_is_needed_where_the_next_episode_follows(tmp_path, store):
    folder = make_shared(tmp_path / "dataset", LENGTHS[:4], lambda k, first, n: (first / FPS, None))
    done = take_in(store, folder)
    assert stored_numbers(store, LENGTHS) == own(LENGTHS[:4])
    assert (done.kept, done.remarks) == ([], [])


@pytest.mark.parametrize("counted", ["from the first picture", "from zero"])
def test_pictures_that_begin_late_are_each_episodes_own(tmp_path, store, counted):
    def times(number, first, frames):
        late = 8 / FPS if counted == "from zero" else 0
        return first / FPS + late, (first + frames) / FPS + late

    folder = make_shared(tmp_path / "dataset", LENGTHS, times, listed=range(12))
    set_edits(folder / shared_file(), [(800, -1), (100 * sum(LENGTHS), 2 * TICKS)])
    done = take_in(store, folder)
    assert stored_numbers(store, LENGTHS) == own(listed=range(12))
    assert len(done.remarks) == (counted == "from the first picture")


def test_two_episodes_that_claim_the_same_pictures_are_both_quarantined(tmp_path, store):
    def times(number, first, frames):
        return regular(number, first - 2 if number == 3 else first, frames)

    done = take_in(store, make_shared(tmp_path / "dataset", LENGTHS[:6], times))
    assert stored_numbers(store, LENGTHS) == own(LENGTHS[:6], listed=[0, 1, 4, 5])
    for kept in store.quarantine.kept().values():
        assert "episodes 2 and 3 have pictures in common" in kept.value or "episodes 3 and 2" in kept.value
    assert len(done.kept) == 2


def test_a_table_that_lost_rows_is_quarantined_and_its_neighbours_are_not(tmp_path, store):
    folder = make_shared(tmp_path / "dataset", LENGTHS[:6], regular)
    table = folder / "data/chunk-000/file-000.parquet"
    gone = sum(LENGTHS[:3]) - 1

    def lose(number, row):
        row["episode_index"] = 99 if number == gone else row["episode_index"]

    edit_rows(table, lose)
    take_in(store, folder)
    assert stored_numbers(store, LENGTHS) == own(LENGTHS[:6], listed=[0, 1, 3, 4, 5])


def test_pictures_behind_an_edit_lists_end_are_no_frames(tmp_path, store):
    folder = make_v21(tmp_path / "dataset")
    video = folder / f"videos/chunk-000/{CAMERA}/episode_000001.mp4"
    write_video(video, np.zeros((37, 32, 48, 3), np.uint8), FPS)
    set_edits(video, [(3000, 2 * TICKS)])
    done = take_in(store, folder)
    assert done.kept == []
    assert [len(list(episode.cameras["head"].images)) for episode in store.episodes()] == [20, 30, 25]


def test_a_cut_within_a_file_never_shows_what_was_cut_out(tmp_path, store):
    lengths = [10, 10]
    folder = make_shared(tmp_path / "dataset", lengths, regular)
    # 20 pictures of 40 are shown: the first 10, and 10 from the 16th on.
    write_video(folder / shared_file(), numbered_pictures(40), FPS)
    set_edits(folder / shared_file(), [(1000, 2 * TICKS), (1000, (2 + 15) * TICKS)])
    done = take_in(store, folder)
    assert stored_numbers(store, lengths) == {0: list(range(10))}
    (kept,) = (store.quarantine.kept()[key] for key in done.kept)
    assert "hides a picture within the episode (an edit list): encode it anew" in kept.value


def test_of_a_file_that_was_cut_off_what_is_there_comes_in(tmp_path, store):
    folder = make_shared(tmp_path / "dataset", LENGTHS, regular)
    path = folder / shared_file()
    whole = path.with_name("whole.mp4")
    path.rename(whole)
    with av.open(str(whole)) as source, av.open(str(path), "w", options={"movflags": "faststart"}) as out:
        stream = out.add_stream_from_template(source.streams.video[0], opaque=True)
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                out.mux(packet)
    path.write_bytes(path.read_bytes()[: int(0.6 * path.stat().st_size)])
    whole.unlink()
    done = take_in(store, folder)
    found = stored_numbers(store, LENGTHS)
    assert 0 < len(found) < len(LENGTHS)
    assert found == own(listed=found)
    assert len(done.kept) == len(LENGTHS) - len(found)


def test_pictures_at_twice_the_rate_cannot_be_told_apart_by_time(tmp_path, store):
    folder = make_shared(
        tmp_path / "dataset", LENGTHS[:3], lambda k, first, n: (first / 20, (first + n) / 20), rate=Fraction(20)
    )
    done = take_in(store, folder)
    assert (done.episodes, len(done.kept)) == ([], 3)
    kept = store.quarantine.kept()[done.kept[0]]
    assert "pictures lie 0.0500 s apart where the episode begins or ends, less than half a frame at 10/s" in kept.value


def test_one_video_for_all_episodes_of_v21_is_nobodys(tmp_path, store):
    folder = make_v21(tmp_path / "dataset")
    videos = folder / "videos/chunk-000" / CAMERA
    (videos / "episode_000000.mp4").rename(videos / "all.mp4")
    for number in (1, 2):
        (videos / f"episode_00000{number}.mp4").unlink()
    edit_info(folder, video_path=f"videos/chunk-000/{CAMERA}/all.mp4")
    done = take_in(store, folder)
    assert (len(done.kept), done.episodes) == (3, [])
