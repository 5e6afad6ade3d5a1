"""A registered model made again: its data, its parameters and its code, and how far the result is from the original."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from flows.code_state import ROOT, code_state
from flows.retraining import PARAMS_ARTIFACT
from posa_vla.console import say
from posa_vla.errors import BadInput, PosaError
from posa_vla.files import scratch_folder, write_text
from posa_vla.params import Params
from posa_vla.schema import parse_json
from posa_vla.workspace import Workspace


def reproduce(workspace: Workspace, model: str, version: str, out: Path, *, fetch_only: bool = False) -> dict[str, Any]:
    """Fetches what a registered model was made of, trains it again, and compares the weights.

    The code is the model's own: where this checkout is at another commit, or has been changed, a work tree of the
    model's commit is trained with. The training runs as the original did, under Ray with as many workers.

    Args:
        workspace: Whose registry, data history and keys.
        model: Registered model.
        version: Its version.
        out: New folder: `params.yaml`, then the training.
        fetch_only: Stops before the training.

    Returns:
        `data_version`, `data` (folder), `params` (file), `commit`, and after the training `policy` (folder),
        `identical`, and otherwise `largest_difference` and `relative_difference` of the weights.

    Raises:
        BadInput: There is no such model version, `out` exists, or the model was registered without what is needed.
        PosaError: MLflow is away, data are damaged, or the training failed.
    """
    from posa_vla.dataset.versions import prepared_data
    from posa_vla.promotion.registry import registered_version

    if out.exists() and any(out.iterdir()):
        raise BadInput(f"{out} is not empty: choose a new folder")
    registered = registered_version(workspace.mlflow_uri, model, version, PARAMS_ARTIFACT)
    if registered.params is None or not registered.data_version:
        raise BadInput(
            f"version {version} of {model} was registered without its parameters or its data version: only its MLflow "
            "run says what it was made of"
        )
    params = parse_json(Params, registered.params, f"parameters of {model} version {version}")
    data_version, data = prepared_data(workspace, registered.data_version)
    place = out / "params.yaml"
    write_text(place, params_yaml(params))
    fetched = {
        "model": model,
        "version": version,
        "data_version": data_version.name,
        "data": str(data),
        "params": str(place),
        "commit": registered.commit,
    }
    if registered.dirty:
        say(f"the model was made with changes on top of {registered.commit[:12]} that no commit holds")
    if fetch_only:
        return fetched
    policy = _train(workspace, registered.commit, data, place, out / "training")
    return {**fetched, "policy": str(policy), **_compare(workspace, registered.bundle, policy)}


def params_yaml(params: Params) -> str:
    """Parameters as a file that `posa train` takes."""
    import yaml

    return yaml.safe_dump(params.model_dump(mode="json"), sort_keys=False)


def _train(workspace: Workspace, commit: str, data: Path, params: Path, out: Path) -> Path:
    """Trains with the code of a commit; returns the policy's folder."""
    here = code_state(workspace.settings)
    if here.commit in {None, commit} and not here.dirty:
        _run_training(ROOT, data, params, out)
    elif not (ROOT / ".git").exists() or commit == "unknown":
        raise BadInput(f"this is no checkout at commit {commit[:12]}, which the model was made with: clone it there")
    else:
        with scratch_folder(workspace.clones) as scratch:
            tree = scratch / "code"
            _git("worktree", "add", "--quiet", "--detach", str(tree), commit)
            try:
                say(f"training with the code of {commit[:12]}; this checkout is at another one, or was changed")
                _run_training(tree, data, params, out)
            finally:
                _git("worktree", "remove", "--force", str(tree))
    return out / "policy" if (out / "policy").is_dir() else _policy_below(out)


def _git(*arguments: str) -> None:
    done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True)
    if done.returncode:
        raise PosaError(f"git {' '.join(arguments)} failed: {done.stderr.strip()}")


def _run_training(code: Path, data: Path, params: Path, out: Path) -> None:
    import os

    command = [sys.executable, "-m", "posa_vla.cli.main", "train", "--data", str(data.resolve())]
    command += ["--params", str(params.resolve()), "--out", str(out.resolve())]
    # The tree's own package comes first, whatever this environment has installed.
    environment = {**os.environ, "PYTHONPATH": str(code)}
    if subprocess.run(command, cwd=code, env=environment).returncode:
        raise PosaError(f"the training failed; `posa train --data {data} --params {params} --out {out}` shows why")


def _policy_below(out: Path) -> Path:
    found = sorted(out.rglob("model.safetensors"))
    if not found:
        raise PosaError(f"the training left no policy below {out}")
    return found[-1].parent


def _compare(workspace: Workspace, bundle: str, policy: Path) -> dict[str, Any]:
    """How far the new weights are from the bundle's."""
    import torch
    from safetensors.torch import load_file

    from posa_vla.object_trees import get_tree

    original = workspace.bundles / bundle
    if not original.is_dir():
        original = get_tree(workspace.storage, f"bundles/{bundle}", workspace.cache)
    first, second = (load_file(folder / "model.safetensors") for folder in (original, policy))
    if first.keys() != second.keys() or any(first[n].shape != second[n].shape for n in first):
        raise PosaError("the new model has other weights by name or shape: other code, or other parameters")
    if all(torch.equal(first[name], second[name]) for name in first):
        return {"identical": True}
    differences = {name: float((first[name] - second[name]).abs().max()) for name in first}
    norm = sum(float(w.double().pow(2).sum()) for w in first.values()) ** 0.5
    distance = sum(float((first[n].double() - second[n].double()).pow(2).sum()) for n in first) ** 0.5
    worst = max(differences, key=lambda name: differences[name])
    return {
        "identical": False,
        "largest_difference": differences[worst],
        "in": worst,
        "relative_difference": distance / max(norm, 1e-12),
    }
