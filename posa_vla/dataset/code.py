"""Which code made the training data."""

from __future__ import annotations

from posa_vla.workspace import code_digest


def data_code() -> dict[str, str]:
    """Digest of the code that decides what prepared data looks like: an input of the data like the episodes are."""
    return {"posa_vla": code_digest("posa_vla.dataset", "posa_vla.episodes", "posa_vla.geometry", "posa_vla.seeds")}
