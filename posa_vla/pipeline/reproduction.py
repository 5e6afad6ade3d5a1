"""A registered model made again: its data, its parameters and its code, and how far the result is from the original."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import Field

from posa_vla.code_git import ask_git, is_checkout
from posa_vla.code_root import CODE_ROOT
from posa_vla.console import say
from posa_vla.errors import BadInput, PosaError
from posa_vla.files import scratch_folder, write_bytes
from posa_vla.processes import dies_with_parent
from posa_vla.release.bundle_store import bundle_at_hand
from posa_vla.release.code_state import code_state
from posa_vla.schema import Closed
from posa_vla.shell import environment
from posa_vla.workspace import Workspace


class Difference(Closed):
    """How far new weights are from the original ones.

    Attributes:
        identical: Whether they are the same, bit by bit; the rest is None then.
        largest_difference: Largest absolute difference of a weight; `tensor` is the one that it is in.
        relative_difference: Norm of all differences over the norm of all weights.
    """

    identical: bool
    largest_difference: float | None = None
    tensor: str | None = Field(default=None, serialization_alias="in")
    relative_difference: float | None = None


class Reproduction(Closed):
    """A model that was made again.

    Attributes:
        model: Registered model; `version` of it.
        data_version: Name of its data version.
        data: Folder of the prepared data.
        params: File.
        commit: Of its code.
        policy: Folder of the new policy; None where nothing was trained.
        difference: Difference of its weights from the original ones; None where the two are not compared.
    """

    model: str
    version: str
    data_version: str
    data: str
    params: str
    commit: str
    policy: str | None = None
    difference: Difference | None = None

    def document(self) -> dict[str, str | bool | float]:
        """The document of `posa reproduce --json`: what is not known is left out."""
        found = self.model_dump(mode="json", exclude={"difference"}, exclude_none=True)
        if self.difference is None:
            return found
        return {**found, **self.difference.model_dump(mode="json", exclude_none=True, by_alias=True)}


def reproduce(workspace: Workspace, model: str, version: str, out: Path, *, fetch_only: bool = False) -> Reproduction:
    """Fetches what a registered model was made of, trains it again, and compares the weights.

    The code is the model's own: where this checkout is at another commit, or has been changed, a work tree of the
    model's commit prepares the data, where they have to be prepared again, and trains. The training runs with as many
    workers as the original had, under Ray on this machine.

    Args:
        workspace: Whose registry, data history and keys.
        model: Registered model.
        version: Version of the registered model.
        out: New folder: `params.yaml`, then the training. One that an earlier, killed call left is gone on with.
        fetch_only: Stops before the training.

    Raises:
        BadInput: There is no such model version, `out` holds something else, or the model was registered without what
            is needed.
        PosaError: MLflow is away, data are damaged, or the training failed.
    """
    from posa_vla.dataset.versions.checkout import prepared_data
    from posa_vla.promotion.registry import registered_version

    place = out / "params.yaml"
    if out.exists() and not out.is_dir():
        raise BadInput(f"{out} is a file, expected a new folder")
    registered = registered_version(workspace.mlflow_uri, model, version)
    if registered.params is None or not registered.data_version:
        raise BadInput(
            f"version {version} of {model} was registered without its parameters or its data version: only its MLflow "
            "run says what it was made of"
        )
    # As the model's own code wrote them: later code knows other keys. JSON is YAML.
    if not (place.is_file() and place.read_bytes() == registered.params) and out.exists() and any(out.iterdir()):
        raise BadInput(f"{out} is not empty, and holds no reproduction of this model: choose a new folder")
    with _code_of(workspace, registered.commit) as code:
        data_version, data = prepared_data(workspace, registered.data_version, code)
        write_bytes(place, registered.params)
        fetched = Reproduction(
            model=model,
            version=version,
            data_version=data_version.name,
            data=str(data),
            params=str(place),
            commit=registered.commit,
        )
        if registered.dirty:
            say(f"the model was made with changes on top of {registered.commit[:12]} that no commit holds")
        if fetch_only:
            return fetched
        start = bundle_at_hand(workspace, registered.start) if registered.start else None
        _run_training(workspace, code or CODE_ROOT, data, place, out / "training", start)
    policy = _policy_below(out / "training")
    difference = _compare(workspace, registered.bundle, policy)
    return fetched.model_copy(update={"policy": str(policy), "difference": difference})


@contextmanager
def _code_of(workspace: Workspace, commit: str) -> Iterator[Path | None]:
    """A work tree of a commit; None where this very code is it, as far as can be known."""
    here = code_state(workspace.settings)
    if here.commit is None:
        say(f"this installation does not know its own commit: it stands in for {commit[:12]}, and may differ from it")
    if here.commit in {None, commit} and not here.dirty:
        yield None
    elif not is_checkout() or commit == "unknown":
        raise BadInput(f"this is no checkout at commit {commit[:12]}, which the model was made with: clone it there")
    else:
        with scratch_folder(workspace.clones) as scratch:
            tree = scratch / "code"
            ask_git("worktree", "add", "--quiet", "--detach", str(tree), commit)
            try:
                say(f"with the code of {commit[:12]}; this checkout is at another one, or was changed")
                yield tree
            finally:
                ask_git("worktree", "remove", "--force", str(tree))


def _run_training(
    workspace: Workspace, code: Path, data: Path, params: Path, out: Path, start: Path | None = None
) -> None:
    # Earlier code has no `posa_vla.cli.start`.
    command = [sys.executable, "-P", "-m", "posa_vla.cli.main", "train", "--data", str(data.resolve())]
    command += ["--params", str(params.resolve()), "--out", str(out.resolve())]
    command += [] if start is None else ["--start-from", str(start)]
    # The tree's own package comes first, whatever this environment has installed; a cluster elsewhere, and what earlier
    # trainings left in its storage, stay out.
    here = {"PYTHONPATH": str(code), "POSA_STORAGE": "", "POSA_RAY_ADDRESS": ""}
    variables = environment(workspace.settings) | here
    ended = subprocess.run(command, cwd=code, env=variables, preexec_fn=dies_with_parent(signal.SIGTERM))
    if ended.returncode:
        raise PosaError(f"the training failed; `posa train --data {data} --params {params} --out {out}` shows why")


def _policy_below(out: Path) -> Path:
    found = sorted(out.rglob("model.safetensors"))
    if not found:
        raise PosaError(f"the training left no policy below {out}")
    return found[-1].parent


def _compare(workspace: Workspace, bundle: str, policy: Path) -> Difference:
    """How far the new weights are from the bundle's."""
    import torch
    from safetensors.torch import load_file

    original = bundle_at_hand(workspace, bundle)
    first, second = (load_file(folder / "model.safetensors") for folder in (original, policy))
    if first.keys() != second.keys() or any(first[n].shape != second[n].shape for n in first):
        raise PosaError("the new model has other weights by name or shape: other code, or other parameters")
    if all(torch.equal(first[name], second[name]) for name in first):
        return Difference(identical=True)
    differences = {name: float((first[name] - second[name]).abs().max()) for name in first}
    norm = sum(float(w.double().pow(2).sum()) for w in first.values()) ** 0.5
    distance = sum(float((first[n].double() - second[n].double()).pow(2).sum()) for n in first) ** 0.5
    worst = max(differences, key=lambda name: differences[name])
    return Difference(
        identical=False,
        largest_difference=differences[worst],
        tensor=worst,
        relative_difference=distance / max(norm, 1e-12),
    )
