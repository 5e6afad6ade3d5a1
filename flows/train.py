"""Train a candidate on a data version, and seal it as a bundle."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flows.retraining import Retraining, timed
from posa_vla.files import sha256_json
from posa_vla.params import Params
from posa_vla.workspace import code_digest

# The code that decides what a training gives.
TRAINING_CODE = ("posa_vla.model", "posa_vla.training", "posa_vla.policy", "posa_vla.dataset.loader")


def training_inputs(data_version: str, params: Params) -> dict[str, Any]:
    """What a training's outcome depends on."""
    return {
        "data_version": data_version,
        "params": params.model_dump(mode="json", include={"model", "train", "prepare"}),
        "code": code_digest(*TRAINING_CODE),
    }


class Curves:
    """Metrics of a training beside its checkpoints, so that every MLflow run that reuses it shows them."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "metrics.jsonl"

    def add(self, step: int, metrics: dict[str, float]) -> None:
        """Appends one row; a resumed training repeats some steps."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a") as file:
            file.write(json.dumps({"step": step, "metrics": metrics}) + "\n")

    def rows(self) -> Iterator[tuple[int, dict[str, float]]]:
        """Rows in order; a last line that a crash cut short is left out."""
        if not self._path.exists():
            return
        for line in self._path.read_text().splitlines():
            try:
                row = json.loads(line)
            except json.JSONDecodeError:
                continue
            yield row["step"], row["metrics"]


def train_candidate(retraining: Retraining, data: dict[str, Any]) -> dict[str, Any]:
    """Trains under Ray, with live curves in MLflow; continues from its last checkpoint after a crash.

    Args:
        retraining: The retraining.
        data: Output of `version_data`.

    Returns:
        `files`, the folder with the policy's files (relative to the workspace); `seconds` that the training took.
    """
    workspace, params = retraining.workspace, retraining.params

    def work(key: str) -> dict[str, Any]:
        start = time.monotonic()
        retraining.start_ray()  # before Ray is imported: it reads its token mode then

        from posa_vla.training.ray_trainer import train_on_ray

        curves = Curves(workspace.training / key)
        run = retraining.tracked(data)

        def on_metrics(step: int, metrics: dict[str, float]) -> None:
            curves.add(step, metrics)
            run.log_metrics(step, metrics)

        files = train_on_ray(workspace.home / data["folder"], params, key, workspace.training, on_metrics)
        return {"files": files.relative_to(workspace.home).as_posix(), "seconds": timed(start), "key": key}

    result = retraining.ledger.step(
        "train",
        training_inputs(data["version"], params),
        work,
        sound=lambda output: _is_there(retraining, output),
    )
    return retraining.keep(result)


def _is_there(retraining: Retraining, output: dict[str, Any]) -> bool:
    return (retraining.workspace.home / str(output["files"]) / "model.safetensors").is_file()


def find_trained(retraining: Retraining, data: dict[str, Any]) -> dict[str, Any] | None:
    """The finished training of these parameters on a data version; see `train_candidate`."""
    inputs = training_inputs(data["version"], retraining.params)
    output = retraining.ledger.find("train", sha256_json({"step": "train", "inputs": inputs}))
    return output if output is not None and _is_there(retraining, output) else None


def seal_bundle(retraining: Retraining, trained: dict[str, Any]) -> dict[str, Any]:
    """Seals the policy's files as a bundle that is named by its content.

    Returns:
        `digest` of the bundle.
    """
    from posa_vla.release.bundle import build_bundle

    workspace = retraining.workspace

    def work(key: str) -> dict[str, Any]:
        return {"digest": build_bundle(workspace.home / trained["files"], workspace.bundles).digest}

    inputs = {"training": trained["key"], "code": code_digest("posa_vla.release.bundle")}
    result = retraining.ledger.step(
        "bundle", inputs, work, sound=lambda output: (workspace.bundles / output["digest"]).is_dir()
    )
    return retraining.keep(result)
