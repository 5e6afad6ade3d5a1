"""What a training starts from, and what is said of it before the training begins."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from posa_vla.console import say
from posa_vla.dataset.shards.manifest import read_manifest, untaught
from posa_vla.errors import BadInput
from posa_vla.model.build import normalisation_of, read_prepared
from posa_vla.model.normalisation import Normalisation
from posa_vla.model.start import read_normalisation, started_params
from posa_vla.params import Params

# From so many of its standard deviations on, a kept normalisation is said not to fit the data.
_FAR = 3.0


@dataclass(frozen=True)
class Start:
    """A policy that a training starts from, verified by the caller.

    Attributes:
        folder: Its files.
        digest: Of its bundle: it stands in the training's key.
    """

    folder: Path
    digest: str

    @property
    def tree(self) -> str:
        """Its tree in the storage, where evaluations look for it too."""
        return f"bundles/{self.digest}"


def require_start(start: Start, data: Path, params: Params) -> Params:
    """The parameters that a training which starts from a policy has; stops where the two do not fit.

    Args:
        start: The policy.
        data: Prepared data.
        params: All parameters.

    Raises:
        BadInput: It has other cameras, another action space, or is another model than these make.
    """
    return started_params(start.folder, read_prepared(data), read_manifest(data), params)


def say_start(start: Start, data: Path, params: Params) -> None:
    """Says what a training starts from, and which normalisation it has.

    Raises:
        BadInput: See `require_start`.
    """
    params = require_start(start, data, params)
    own = normalisation_of(data, read_prepared(data), params)
    say(f"training: it starts from {start.digest[:12]}; {_which(params, read_normalisation(start.folder), own)}")
    said = untaught(read_manifest(data))
    if said:
        say(f"training: {said}. model.gate={params.model.gate} is that of the policy, which nothing teaches here")


def _which(params: Params, its: Normalisation, own: Normalisation) -> str:
    if params.train.normalisation == "new":
        return "its normalisation is made anew from these data, and its first and last layers have to learn that"
    if len(its.action.mean) != len(own.action.mean):
        raise BadInput(
            f"start_from: its normalisation has {len(its.action.mean)} action channels, these data "
            f"{len(own.action.mean)}: start from another one, or from scratch"
        )
    far = max(_distance(its, own, vector) for vector in ("state", "action"))
    words = f"its normalisation is kept, and these data lie up to {far:.1f} of its standard deviations from its means"
    return f"{words}: train.normalisation=new makes it anew" if far > _FAR else words


def _distance(its: Normalisation, own: Normalisation, vector: str) -> float:
    """How far the data's means are from a policy's, in the policy's standard deviations, at most over the channels."""
    old, new = getattr(its, vector), getattr(own, vector)
    std = np.maximum(old.std, old.floor or 1e-6)
    return float((np.abs(np.array(new.mean) - old.mean) / std).max())
