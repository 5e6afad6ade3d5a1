from __future__ import annotations

from pathlib import Path

import pytest

from posa_vla.errors import BadInput
from posa_vla.release.keys import ROLES, create_key, load_key, load_or_create_keys, public_hex, public_key


def test_a_publishers_keys_are_made_once_and_are_its_own(tmp_path: Path) -> None:
    first = load_or_create_keys(tmp_path / "keys")
    again = load_or_create_keys(tmp_path / "keys")
    assert set(first) == set(ROLES)
    assert {role: public_hex(s) for role, s in first.items()} == {role: public_hex(s) for role, s in again.items()}
    assert len({public_hex(s) for s in first.values()}) == len(ROLES)
    assert (tmp_path / "keys").stat().st_mode & 0o777 == 0o700
    for path in (tmp_path / "keys").glob("*.pem"):
        assert path.stat().st_mode & 0o777 == 0o600


def test_a_public_key_keeps_its_identity(tmp_path: Path) -> None:
    signer = create_key(tmp_path / "key.pem")
    assert public_key(public_hex(signer)).keyid == signer.public_key.keyid
    for bad in ("", "zz", "00" * 31):
        with pytest.raises(BadInput, match="64 hex digits"):
            public_key(bad)


def test_a_key_open_to_others_is_not_used(tmp_path: Path) -> None:
    create_key(tmp_path / "key.pem")
    (tmp_path / "key.pem").chmod(0o644)
    with pytest.raises(BadInput, match="chmod 600"):
        load_key(tmp_path / "key.pem")


def test_a_key_is_never_replaced(tmp_path: Path) -> None:
    create_key(tmp_path / "key.pem")
    before = (tmp_path / "key.pem").read_bytes()
    with pytest.raises(BadInput, match="never replaced"):
        create_key(tmp_path / "key.pem")
    assert (tmp_path / "key.pem").read_bytes() == before


def test_what_is_no_key_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="does not exist"):
        load_key(tmp_path / "none.pem")
    other = tmp_path / "other.pem"
    other.write_text("nothing")
    other.chmod(0o600)
    with pytest.raises(BadInput, match="no Ed25519"):
        load_key(other)
