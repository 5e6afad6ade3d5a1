"""`posa train`: training alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from posa_vla.cli.options import AsJson, ParamsFile, Preset, Set, read_params

if TYPE_CHECKING:
    from posa_vla.training.start import Start


def _start(folder: Path) -> Start:
    """A bundle, verified, or the folder of a policy, named by its content."""
    from posa_vla.errors import BadInput
    from posa_vla.files import sha256_tree
    from posa_vla.model.posa_policy import POLICY_FILES
    from posa_vla.release.bundle import MANIFEST, verify_bundle
    from posa_vla.training.start import Start

    folder = folder.resolve()
    if (folder / MANIFEST).is_file():
        verify_bundle(folder, folder.name)
        return Start(folder, folder.name)
    missing = [name for name in POLICY_FILES[:-1] if not (folder / name).is_file()]
    if missing:
        raise BadInput(f"--start-from {folder} holds no policy, it lacks {', '.join(missing)}: give a bundle's folder")
    return Start(folder, sha256_tree(folder))


def train(
    data: Annotated[Path, typer.Option("--data", help="Prepared data (posa data prepare).")],
    out: Annotated[
        Path, typer.Option("--out", help="Folder of this training: its checkpoints, and the policy in policy/.")
    ],
    start_from: Annotated[
        Path | None, typer.Option("--start-from", help="Policy to train on: a bundle, or a folder that this printed.")
    ] = None,
    local: Annotated[bool, typer.Option("--local", help="Run in this process, without Ray.")] = False,
    preset: Preset = None,
    settings: Set = None,
    params_file: ParamsFile = Path("params.yaml"),
    as_json: AsJson = False,
) -> None:
    """Train PosA-VLA on prepared data, on Ray or in this process; the same command continues a killed training."""
    import shutil
    import time

    from posa_vla.code_digest import code_digest
    from posa_vla.console import print_json, print_table
    from posa_vla.dataset.shards.manifest import MANIFEST, read_manifest
    from posa_vla.errors import BadInput
    from posa_vla.files import new_folder, read_json, sha256_file, sha256_json, write_bytes, write_json
    from posa_vla.policy.made_for import EXECUTION_FILE, made_for, made_for_bytes
    from posa_vla.training.start import require_start

    params = read_params(params_file, preset, settings)
    way = made_for(params, params.model.flow_steps)
    read_manifest(data)
    version = sha256_file(data / MANIFEST)
    start = None if start_from is None else _start(start_from)
    if start is not None:
        require_start(start, data, params)
    inputs = {
        "data": version,
        **({} if start is None else {"start": start.digest}),
        "params": params.model_dump(mode="json", include={"model", "train", "prepare"}),
        "code": code_digest("posa_vla.training"),
    }
    key, mark = sha256_json(inputs), out / "training.json"
    if out.exists() and not mark.exists() and (not out.is_dir() or any(out.iterdir())):
        raise BadInput(f"{out} holds something that is no training: choose a new folder")
    if mark.exists() and read_json(mark).get("key") != key:
        raise BadInput(
            f"{out} holds a training on other data or parameters, or by other code: choose a new folder, or delete it"
        )
    write_json(mark, {"schema_version": 1, "key": key, "inputs": inputs})
    begun = time.monotonic()
    last: dict[str, float] = {}

    def on_metrics(step: int, metrics: dict[str, float]) -> None:
        last.update(metrics, step=step)

    if local:
        from posa_vla.training.loop import train as train_here

        policy = train_here(data.resolve(), params, out.resolve(), on_metrics=on_metrics, start=start)
    else:
        from posa_vla.objects.open import open_objects
        from posa_vla.ray_jobs import open_jobs
        from posa_vla.settings import Settings, cache_folder
        from posa_vla.training.submit import train_as_job

        chosen = Settings()
        storage = open_objects(chosen.storage or str(out))
        with open_jobs(chosen, at_least=params.train.processors) as jobs:
            place = (storage, data.resolve(), version, params, key, cache_folder(chosen))
            files = train_as_job(jobs, *place, on_metrics, start)
        policy = out.resolve() / "policy"
        with new_folder(policy) as folder:  # what the storage holds is named by its content, and stays as it is
            shutil.copytree(files, folder, dirs_exist_ok=True)
    write_bytes(policy / EXECUTION_FILE, made_for_bytes(way))
    seconds = round(time.monotonic() - begun, 1)
    if as_json:
        print_json({"policy": str(policy), "seconds": seconds, "metrics": last})
    else:
        rows = [(name, f"{value:.4g}") for name, value in last.items()]
        print_table("posa train", [("policy", str(policy)), ("seconds", str(seconds)), *rows])
