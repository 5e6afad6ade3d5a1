"""What every store of objects must keep: the promises of `posa_vla.objects.contract.Objects`."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from posa_vla.errors import PosaError
from posa_vla.objects.contract import Objects
from posa_vla.objects.open import open_objects

# How far a store's clock may be off (s).
_CLOCK = 300.0
# More than one piece of a read, and more than one part of an upload's buffer (bytes).
_LARGE = 3_000_000


class ObjectsContract:
    """Tests of one store; a subclass whose name begins with `Test` has the fixture `objects`, an empty store."""

    @pytest.fixture
    def objects(self) -> Objects:
        """An empty store, another one for each test."""
        raise NotImplementedError("give the store: override the fixture `objects` in the subclass")

    def reopen(self, objects: Objects) -> Objects:
        """The same store, opened anew; override it for a store that `open_objects` does not know."""
        return open_objects(objects.location)

    def test_an_empty_store_has_nothing(self, objects: Objects) -> None:
        """To ask for an object that is not there is no error; to fetch it is one."""
        assert objects.get("a/b.json") is None
        assert objects.read("a/b.json") is None
        assert not objects.exists("a/b.json")
        assert objects.list() == []
        assert list(objects.stored()) == []
        objects.delete("a/b.json")
        objects.remove("a/")

    def test_what_was_put_is_there_and_replaced_as_a_whole(self, objects: Objects) -> None:
        """An object that is put at a path replaces the one before."""
        objects.put("a/b.json", b"1" * 100)
        objects.put("a/b.json", b"3")
        assert objects.exists("a/b.json")
        assert objects.get("a/b.json") == b"3"
        assert self.reopen(objects).get("a/b.json") == b"3"
        objects.put("empty", b"")
        assert objects.get("empty") == b""

    def test_a_large_object_is_read_in_pieces(self, objects: Objects) -> None:
        """Memory does not have to hold the whole object: there is more than one piece."""
        objects.put("large", b"2" * _LARGE)
        found = objects.read("large")
        assert found is not None
        pieces = list(found)
        assert b"".join(pieces) == b"2" * _LARGE
        assert len(pieces) > 1

    def test_a_listing_is_sorted_and_begins_with_the_prefix(self, objects: Objects) -> None:
        """A prefix may end within a name; `stored` gives the same with sizes and times."""
        for path in ("b", "a/c.json", "a/b.json", "a/cd/e", "ab"):
            objects.put(path, path.encode())
        assert objects.list() == ["a/b.json", "a/c.json", "a/cd/e", "ab", "b"]
        assert objects.list("a/") == ["a/b.json", "a/c.json", "a/cd/e"]
        assert objects.list("a/c") == ["a/c.json", "a/cd/e"]
        assert objects.list("c") == []
        stored = {item.path: item for item in objects.stored("a")}
        assert sorted(stored) == objects.list("a")
        for path, item in stored.items():
            assert item.size == len(path)
            assert abs(item.modified - time.time()) < _CLOCK

    def test_one_object_is_deleted_and_a_folder_removed(self, objects: Objects) -> None:
        """A folder whose name merely begins with the same letters stays."""
        for path in ("a/b", "a/c/d", "ab", "b"):
            objects.put(path, b"1")
        objects.delete("b")
        assert objects.list() == ["a/b", "a/c/d", "ab"]
        objects.remove("a/")
        assert objects.list() == ["ab"]
        with pytest.raises(ValueError, match="slash"):
            objects.remove("a")

    def test_a_file_goes_in_and_comes_out(self, objects: Objects, tmp_path: Path) -> None:
        """The file that is fetched appears whole; one that is not in the store leaves nothing behind."""
        source, target = tmp_path / "source", tmp_path / "out" / "target"
        source.write_bytes(b"4" * _LARGE)
        objects.put("deep/file", b"older")
        objects.put_file("deep/file", source)
        objects.fetch("deep/file", target)
        assert target.read_bytes() == source.read_bytes()
        with pytest.raises(PosaError, match="no/such"):
            objects.fetch("no/such", tmp_path / "nothing")
        assert not (tmp_path / "nothing").exists()

    def test_a_copy_has_bytes_of_its_own(self, objects: Objects, tmp_path: Path) -> None:
        """A change of the file does not change the object."""
        source = tmp_path / "source"
        source.write_bytes(b"whole")
        objects.put_copy("copy", source)
        with source.open("r+b") as file:
            file.write(b"torn!")
        assert objects.get("copy") == b"whole"

    def test_a_place_is_where_the_object_lies(self, objects: Objects) -> None:
        """A store that is not on this machine gives None."""
        objects.put("a/b", b"5")
        place = objects.place("a/b")
        if place is not None:
            assert place.is_file(), f"the object is not at {place}"
            assert place.read_bytes() == b"5"
