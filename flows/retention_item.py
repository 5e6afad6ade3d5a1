"""One thing that `posa gc` has looked at."""

from __future__ import annotations

from typing import Literal

from posa_vla.schema import Closed

Store = Literal["trainings", "evaluations", "bundles", "prepared", "dvc-cache", "dvc-remote", "incoming"]


class Item(Closed):
    """One thing in a store.

    Attributes:
        store: Which.
        name: Its key or digest.
        size: Bytes.
        age: Days since anything in it was written.
        kept: Why it stays; empty for what goes.
    """

    store: Store
    name: str
    size: int
    age: float
    kept: str
