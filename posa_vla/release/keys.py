"""Ed25519 keys: the publisher's, made in its workspace, and the approvers', who keep their own."""

from __future__ import annotations

import shlex
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from securesystemslib.signer import CryptoSigner, SSlibKey

from posa_vla.errors import BadInput
from posa_vla.files import write_bytes
from posa_vla.json_reader import LARGEST_RECORD, decode_json
from posa_vla.weak_keys import weakness

# The four roles of the channel's metadata (TUF specification, section 2.1), and the one that signs release records.
ROLES = ("root", "targets", "snapshot", "timestamp", "publisher")
# What to do where something is lost that robots trust: made anew in silence, it would be another publisher's.
LOST = (
    "restore it from a backup; without one begin anew with other keys, which every robot must be handed "
    "(docs/security.md, lost keys)"
)


def public_key(hex_bytes: str) -> SSlibKey:
    """A public key of its 32 raw bytes in hex; its id depends on nothing else.

    Raises:
        BadInput: The text is not 32 bytes in hex, or a point with which anybody's signature counts.
    """
    try:
        key = SSlibKey.from_crypto(Ed25519PublicKey.from_public_bytes(bytes.fromhex(hex_bytes)))
    except ValueError:
        raise BadInput(f"{hex_bytes!r} is no Ed25519 public key: expected 64 hex digits") from None
    weak = weakness(bytes.fromhex(hex_bytes))
    if weak is not None:
        raise BadInput(
            f"{hex_bytes!r} is no key of a person or a publisher, but {weak}: `posa approve --new-key FILE` makes one"
        )
    return key


def canonical_keys(keys: list[str]) -> list[str]:
    """Public keys in the one spelling that may be compared: lower-case hex.

    Raises:
        ValueError: A text is no key, or a key is listed twice.
    """
    found = []
    for key in keys:
        try:
            public_key(key)
        except BadInput as error:
            raise ValueError(str(error)) from None
        found.append(bytes.fromhex(key).hex())
    if len(set(found)) != len(found):
        raise ValueError("the same key is there twice: each person has one of their own")
    return found


def require_sound_root(root: bytes, where: str) -> None:
    """Stops at root metadata of a channel with a key that is none.

    Raises:
        BadInput: See `public_key`; or the bytes are no metadata.
    """
    try:
        keys = decode_json(root, where, limit=LARGEST_RECORD)["signed"]["keys"].values()
        ours = [str(key["keyval"]["public"]) for key in keys if key["keytype"] == "ed25519"]
    except (KeyError, TypeError, AttributeError) as error:
        raise BadInput(f"{where} is no root metadata of a channel ({error!r})") from None
    for key in ours:
        public_key(key)


def public_hex(signer: CryptoSigner) -> str:
    """The signer's public key, 32 raw bytes in hex: what a person copies into `params.yaml`."""
    key: str = signer.public_key.keyval["public"]
    return key


def load_key(path: Path) -> CryptoSigner:
    """Reads a private key file.

    Raises:
        BadInput: The file is missing, is no unencrypted Ed25519 key in PEM, or others than its owner can read it.
    """
    try:
        if path.stat().st_mode & 0o077:
            raise BadInput(
                f"key {path} can be read by others than its owner: "
                f"chmod 600 {shlex.quote(str(path))}, or make a new one"
            )
        key = load_pem_private_key(path.read_bytes(), password=None)
    except FileNotFoundError:
        raise BadInput(f"key {path} does not exist") from None
    except OSError as error:
        raise BadInput(f"key {path} cannot be read: {error.strerror}") from None
    except (ValueError, TypeError) as error:
        raise BadInput(f"{path} is no Ed25519 private key in PEM: {error}") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise BadInput(f"{path} holds a key of type {type(key).__name__}, expected Ed25519")
    return CryptoSigner(key)


def create_key(path: Path) -> CryptoSigner:
    """Makes a private key file (PEM, mode 0600).

    Raises:
        BadInput: The file exists already; a key is never replaced.
    """
    if path.exists():
        raise BadInput(f"{path} exists already, and a key is never replaced: choose another file")
    path.parent.mkdir(parents=True, exist_ok=True)
    signer = CryptoSigner.generate_ed25519()
    write_bytes(path, signer.private_bytes, mode=0o600)
    return signer


def load_or_create_keys(folder: Path, *, begun: bool = False) -> dict[str, CryptoSigner]:
    """The keys of a publisher, one a role; made at the first call in a folder of mode 0700.

    Args:
        folder: Where they lie.
        begun: Whether they have signed before: then a missing one was lost, and is not made anew.

    Returns:
        Role (see `ROLES`) -> signer.

    Raises:
        BadInput: A key file is damaged or lost, or file or folder is open to others.
    """
    if not begun:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.exists() and folder.stat().st_mode & 0o077:
        raise BadInput(f"key folder {folder} is open to others than its owner: chmod 700 {shlex.quote(str(folder))}")
    paths = {role: folder / f"{role}.pem" for role in ROLES}
    lost = [path.name for path in paths.values() if not path.exists()]
    if begun and lost:
        raise BadInput(f"key folder {folder} has lost {', '.join(lost)}, with which releases were signed: {LOST}")
    return {role: load_key(path) if path.exists() else create_key(path) for role, path in paths.items()}
