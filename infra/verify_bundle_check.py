"""Builds a bundle, verifies it, and sees a flipped byte refused, with the installed package alone.

Usage: python verify_bundle_check.py CHECKOUT, with the wheel's Python, outside the checkout.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

import posa_vla
from posa_vla.episodes.embodiment import load_embodiment
from posa_vla.errors import Refused
from posa_vla.files import write_json
from posa_vla.release.bundle import build_bundle, verify_bundle


def main() -> None:
    """Runs the check; exits 1 with a message where it fails."""
    checkout = Path(sys.argv[1]).resolve()
    if Path(posa_vla.__file__).resolve().is_relative_to(checkout):
        sys.exit(f"posa_vla was imported from the checkout: {posa_vla.__file__}")
    embodiment = load_embodiment("sim_arm6")
    with tempfile.TemporaryDirectory() as name:
        files, bundles = Path(name) / "files", Path(name) / "bundles"
        files.mkdir()
        save_file({"weight": np.arange(8, dtype=np.float32)}, files / "model.safetensors")
        write_json(files / "config.json", {"schema_version": 1})
        write_json(files / "normalisation.json", {"schema_version": 1})
        write_json(files / "embodiment.json", embodiment.model_dump(mode="json"))
        bundle = build_bundle(files, bundles)
        verify_bundle(bundle.folder, bundle.digest)
        weights = bundle.folder / "model.safetensors"
        data = bytearray(weights.read_bytes())
        data[-1] ^= 1
        weights.chmod(0o644)
        weights.write_bytes(bytes(data))
        try:
            verify_bundle(bundle.folder, bundle.digest)
        except Refused as refusal:
            print(f"refused as it should: {refusal}")
        else:
            sys.exit("a bundle with one flipped byte was accepted")


if __name__ == "__main__":
    main()
