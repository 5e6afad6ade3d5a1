from __future__ import annotations

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from releases import Channel, make_record, make_trust
from securesystemslib.signer import CryptoSigner

from posa_vla.errors import BadInput
from posa_vla.files import write_json
from posa_vla.params import TargetParams
from posa_vla.release.keys import ROLES, create_key, load_key, load_or_create_keys, public_hex, public_key
from posa_vla.release.record import approvals, sign_record
from posa_vla.release.trust import read_trust, write_trust
from posa_vla.schema import parse


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


_PRIME = 2**255 - 19
# The y of a point of order 8, whose double has y = 0: there x^2 = -y^2.
_Y8 = 0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7
_YS = {0, 1, _PRIME - 1, _Y8, _PRIME - _Y8}
# The eight points whose order divides 8, and all that spells one of them: y + 2^255 - 19, and a sign where x is 0.
WEAK = sorted(
    (y | sign << 255).to_bytes(32, "little").hex()
    for y in _YS | {y + _PRIME for y in _YS if y + _PRIME < 2**255}
    for sign in (0, 1)
)


def test_the_points_of_the_next_test_are_those() -> None:
    d = -121665 * pow(121666, -1, _PRIME) % _PRIME
    assert (2 * _Y8**2 - 1 + d * _Y8**4) % _PRIME == 0
    assert len(WEAK) == 14


@pytest.mark.fault
@pytest.mark.parametrize("key", WEAK)
def test_a_key_with_which_anybodys_signature_counts_is_no_key_wherever_it_is_read(tmp_path: Path, key: str) -> None:
    signer = create_key(tmp_path / "key.pem")
    trust = make_trust(signer).model_dump()
    write_trust(tmp_path, Channel(tmp_path, str(tmp_path / "channel")).publisher.root_bytes(), make_trust(signer))
    for name in ("approvers", "publishers"):
        write_json(tmp_path / "trust.json", {**trust, name: [key]})
        with pytest.raises(BadInput, match=f"{key}.*(small order|spelling)"):
            read_trust(tmp_path)
    target = {"embodiment": "sim_arm6", "task": "pick", "approvals": 1, "approvers": {"anna": key}}
    with pytest.raises(BadInput, match="anna's key is none, but a point"):
        parse(TargetParams, target, "params.yaml")
    root = json.loads((tmp_path / "root.json").read_text())
    next(iter(root["signed"]["keys"].values()))["keyval"]["public"] = key
    write_json(tmp_path / "root.json", root)
    with pytest.raises(BadInput, match=r"small order|spelling"):
        read_trust(tmp_path)


@pytest.mark.fault
def test_the_signature_of_nobody_approves_nothing() -> None:
    """The neutral point as a key: S = 0 and R = the neutral point is a signature of every text, for OpenSSL too."""
    neutral = "01" + "00" * 31
    Ed25519PublicKey.from_public_bytes(bytes.fromhex(neutral)).verify(bytes.fromhex(neutral + "00" * 32), b"any text")
    publisher = CryptoSigner.generate_ed25519()
    trust = make_trust(publisher, approvals=1)
    weak = trust.model_copy(update={"approvers": [neutral]})
    with pytest.raises(BadInput, match="small order"):
        approvals(sign_record(make_record("a" * 64), publisher), weak)
