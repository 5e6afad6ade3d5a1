"""A posa-vla whose defaults of an evaluation are others: what was made before it must not change."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from posa_vla.params import EvaluateParams, Params

# Each is another one than any that there was.
DEFAULTS: dict[str, Any] = {
    "execute": 3,
    "committed": 1,
    "flow_steps": 5,
    "start_noise": 0.25,
    "max_steps": 33,
}


@contextmanager
def other_defaults() -> Iterator[None]:
    """Gives `EvaluateParams`, alone and in `Params`, the defaults above while the block runs."""
    fields = EvaluateParams.model_fields
    before = {name: fields[name].default for name in DEFAULTS}
    try:
        _set(DEFAULTS)
        yield
    finally:
        _set(before)


def _set(defaults: dict[str, Any]) -> None:
    for name, value in defaults.items():
        EvaluateParams.model_fields[name].default = value
    for schema in (EvaluateParams, Params):
        schema.model_rebuild(force=True)
