from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from releases import flip, make_bundle

from posa_vla.errors import BadInput, Refused
from posa_vla.files import tree_manifest
from posa_vla.release.bundle import build_bundle, verify_bundle


def test_the_same_files_give_the_same_bundle(tmp_path: Path) -> None:
    first = make_bundle(tmp_path)
    before = tree_manifest(first.folder)
    again = make_bundle(tmp_path)
    assert again == first
    assert tree_manifest(first.folder) == before
    assert first.folder.name == first.digest
    assert make_bundle(tmp_path, seed=1).digest != first.digest


@pytest.mark.fault
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(data=st.data())
def test_one_flipped_bit_anywhere_is_refused(tmp_path: Path, data: st.DataObject) -> None:
    bundle = make_bundle(tmp_path)
    path = data.draw(st.sampled_from(sorted(bundle.folder.iterdir())))
    original = path.read_bytes()
    changed = bytearray(original)
    changed[data.draw(st.integers(0, len(original) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(bytes(changed))
    try:
        with pytest.raises(Refused):
            verify_bundle(bundle.folder, bundle.digest)
    finally:
        path.write_bytes(original)
    verify_bundle(bundle.folder, bundle.digest)


def test_a_file_too_many_or_too_few_is_refused(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path)
    extra = bundle.folder / "extra.json"
    extra.write_text("{}")
    with pytest.raises(Refused, match=r"extra\.json"):
        verify_bundle(bundle.folder, bundle.digest)
    extra.unlink()
    (bundle.folder / "config.json").unlink()
    with pytest.raises(Refused, match=r"missing .*config\.json"):
        verify_bundle(bundle.folder, bundle.digest)


def test_a_link_is_no_file(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path)
    weights = bundle.folder / "model.safetensors"
    elsewhere = tmp_path / "elsewhere"
    os.rename(weights, elsewhere)
    weights.symlink_to(elsewhere)
    with pytest.raises(Refused, match="plain file"):
        verify_bundle(bundle.folder, bundle.digest)


def test_another_digest_is_refused_before_anything_is_parsed(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path)
    flip(bundle.folder / "manifest.json", 0)  # no longer JSON
    with pytest.raises(Refused, match="SHA-256"):
        verify_bundle(bundle.folder, bundle.digest)


@pytest.mark.parametrize("name", ["code.py", "weights.pkl", "manifest.json"])
def test_what_could_execute_code_is_not_bundled(tmp_path: Path, name: str) -> None:
    files = tmp_path / "files"
    files.mkdir()
    (files / name).write_text("{}")
    with pytest.raises(BadInput, match=name):
        build_bundle(files, tmp_path / "bundles")
    assert not (tmp_path / "bundles").exists()


def test_an_empty_folder_is_no_policy(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="holds no policy"):
        build_bundle(tmp_path / "nothing", tmp_path / "bundles")
