from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posa_vla import files
from posa_vla.errors import BadInput, PosaError

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    files.write_text(path, "old")

    def fail(source: str, target: str) -> None:
        raise OSError("no more room")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="no more room"):
        files.write_text(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_private_file_is_private(tmp_path):
    files.write_bytes(tmp_path / "key", b"secret", mode=0o600)
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600


def test_json_has_no_nan(tmp_path):
    with pytest.raises(ValueError, match="JSON compliant"):
        files.write_json(tmp_path / "a.json", {"x": float("nan")})
    assert not (tmp_path / "a.json").exists()


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b""])
def test_a_file_that_is_not_json_is_bad_input_that_names_the_file(tmp_path, content):
    path = tmp_path / "broken.json"
    path.write_bytes(content)
    with pytest.raises(BadInput, match=r"broken\.json is not JSON"):
        files.read_json(path)


def test_a_missing_json_file_is_bad_input(tmp_path):
    with pytest.raises(BadInput, match="does not exist"):
        files.read_json(tmp_path / "none.json")


@given(json_values)
def test_canonical_json_depends_on_the_value_alone(value):
    shuffled = dict(reversed(value.items())) if isinstance(value, dict) else value
    assert files.canonical_json(shuffled) == files.canonical_json(value)


def test_a_new_folder_is_seen_only_when_it_is_complete(tmp_path):
    final = tmp_path / "out" / "folder"
    with files.new_folder(final) as draft:
        (draft / "a").write_text("1")
        assert not final.exists()
    assert (final / "a").read_text() == "1"
    assert list(final.parent.iterdir()) == [final]


def test_a_new_folder_whose_making_fails_is_not_there(tmp_path):
    def make() -> None:
        with files.new_folder(tmp_path / "folder") as draft:
            (draft / "a").write_text("1")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        make()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_exists_stays_as_it_is(tmp_path):
    for text in ("first", "second"):
        with files.new_folder(tmp_path / "folder") as draft:
            (draft / "a").write_text(text)
    assert (tmp_path / "folder" / "a").read_text() == "first"


def test_tree_digest_changes_with_content_and_with_names(tmp_path):
    (tmp_path / "a").write_bytes(b"12")
    digests = [files.sha256_tree(tmp_path)]
    (tmp_path / "a").write_bytes(b"13")
    digests.append(files.sha256_tree(tmp_path))
    (tmp_path / "a").rename(tmp_path / "b")
    digests.append(files.sha256_tree(tmp_path))
    assert len(set(digests)) == 3


@pytest.mark.parametrize("path", ["/etc/passwd", "../x", "a/../../x", ""])
def test_paths_that_leave_the_folder_are_refused(tmp_path, path):
    with pytest.raises(PosaError, match="leaves"):
        files.safe_join(tmp_path, path)


def test_a_link_out_of_the_folder_is_refused(tmp_path):
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / "link").symlink_to(tmp_path)
    with pytest.raises(PosaError, match="through a link"):
        files.safe_join(tmp_path / "inside", "link/other")


def test_work_that_the_disk_has_no_room_for_does_not_start(tmp_path):
    with pytest.raises(BadInput, match="training needs"):
        files.require_free_space(tmp_path / "not" / "yet", 10**18, "training")
    files.require_free_space(tmp_path, 1, "training")


def test_a_scratch_folder_is_gone_afterwards(tmp_path):
    def work() -> None:
        with files.scratch_folder(tmp_path) as folder:
            (folder / "a").write_text("1")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        work()
    assert list(tmp_path.iterdir()) == []


def test_scratch_folders_of_running_owners_stay(tmp_path):
    with files.scratch_folder(tmp_path) as first, files.scratch_folder(tmp_path) as second:
        assert first.is_dir()
        assert second.is_dir()


@pytest.mark.fault
def test_the_scratch_folder_of_a_killed_owner_is_removed_by_the_next_one(tmp_path):
    program = (
        "import sys, pathlib\nfrom posa_vla.files import scratch_folder\n"
        "with scratch_folder(pathlib.Path(sys.argv[1])) as folder:\n"
        "    (folder / 'left').write_text('1')\n    print(folder, flush=True)\n    sys.stdin.read()\n"
    )
    owner = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout is not None
    left = owner.stdout.readline().strip()
    owner.send_signal(signal.SIGKILL)
    owner.communicate()
    assert os.path.exists(left)
    with files.scratch_folder(tmp_path):
        assert not os.path.exists(left)
