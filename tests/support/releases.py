"""Bundles, records and channels for tests of everything that publishes, approves or takes releases."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from factories import make_embodiment
from safetensors.numpy import save_file
from securesystemslib.signer import CryptoSigner

from posa_vla.files import write_json
from posa_vla.policy.execution import Execution
from posa_vla.promotion.entries import Promotion
from posa_vla.release.bundle import Bundle, build_bundle
from posa_vla.release.code_state import CodeState
from posa_vla.release.keys import public_hex
from posa_vla.release.publisher import Publisher
from posa_vla.release.record import ReleaseRecord, sign_record
from posa_vla.release.trust import Trust

TARGET = "bench-pick"
# Other than what a robot runs with where no release fixes it.
EXECUTION = Execution(execute=2, committed=1, flow_steps=3, start_noise=0.5, max_steps=20)


def make_bundle(folder: Path, seed: int = 0) -> Bundle:
    """A small bundle; another seed gives another digest."""
    files = folder / f"files-{seed}"
    files.mkdir(parents=True, exist_ok=True)
    save_file({"weight": np.full(8, seed, np.float32)}, files / "model.safetensors")
    write_json(files / "config.json", {"schema_version": 1, "seed": seed})
    return build_bundle(files, folder / "bundles")


def make_record(bundle: str, release: int = 1, **changes: Any) -> ReleaseRecord:
    embodiment = make_embodiment()
    values: dict[str, Any] = {
        "target": TARGET,
        "release": release,
        "bundle_digest": bundle,
        "embodiment_id": embodiment.id,
        "embodiment_digest": embodiment.digest,
        "simulated": True,
        "data_version": "d" * 64,
        "params_digest": "c" * 64,
        "code": CodeState(commit="0" * 40, dirty=False, lock_sha256="1" * 64),
        "run_id": "run",
        "model_version": str(release),
        "evidence": ["e" * 64],
        "decision": "f" * 64,
        "created": "2026-11-23T12:00:00Z",
    }
    return ReleaseRecord(**{**values, **changes})


def make_record_2(bundle: str, release: int = 1, **changes: Any) -> ReleaseRecord:
    """A record of version 2; its sequence is the release's number unless another is given."""
    added: dict[str, Any] = {
        "schema_version": 2,
        "execution": EXECUTION,
        "image_size": 32,
        "sequence": release,
        "log_head": "0" * 64,
    }
    return make_record(bundle, release, **{**added, **changes})


def promotion(bundle: str, release: int = 1, **changes: Any) -> Promotion:
    """A log entry; its record is no real one unless it is given."""
    values: dict[str, Any] = {
        "key": bundle,
        "bundle": bundle,
        "release": release,
        "record": "a" * 64,
        "decision": "f" * 64,
        "model_version": str(release),
        "reasons": ["it clears the floor"],
    }
    return Promotion(**{**values, **changes})


def make_trust(
    *publishers: CryptoSigner, approvers: tuple[CryptoSigner, ...] = (), approvals: int = 0, simulated: bool = True
) -> Trust:
    embodiment = make_embodiment()
    return Trust(
        target=TARGET,
        embodiment_id=embodiment.id,
        embodiment_digest=embodiment.digest,
        publishers=[public_hex(signer) for signer in publishers],
        approvers=[public_hex(signer) for signer in approvers],
        approvals=approvals,
        simulated=simulated,
    )


@dataclass
class Channel:
    """A publisher with its channel, below one folder."""

    folder: Path
    location: str

    @property
    def publisher(self) -> Publisher:
        return Publisher(self.location, self.folder / "keys")

    @property
    def trust(self) -> Trust:
        return make_trust(self.publisher.record_signer)

    def publish(self, release: int, seed: int | None = None, **changes: Any) -> tuple[Bundle, bytes]:
        """Publishes a record of a bundle; the bundle is made of the release's number unless a seed is given."""
        bundle = make_bundle(self.folder, release if seed is None else seed)
        make = make_record_2 if changes.get("schema_version") == 2 else make_record
        envelope = sign_record(make(bundle.digest, release, **changes), self.publisher.record_signer)
        self.publisher.publish(TARGET, envelope, bundle)
        return bundle, envelope


def flip(path: Path, position: int = -1) -> None:
    """Changes one bit of a file."""
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.chmod(0o644)
    path.write_bytes(bytes(data))
