"""Collect demonstrations into the episode store, and version the store as training data."""

from __future__ import annotations

from typing import Any

from posa_vla.episodes.embodiment import Embodiment
from posa_vla.files import sha256_tree
from posa_vla.ledger import Ledger, StepResult
from posa_vla.params import Params
from posa_vla.pipeline.context import Retraining
from posa_vla.workspace import Workspace

# How long a run waits for another one that changes the store or its history (s).
DATA_WAIT = 3600.0


def _version_inputs(workspace: Workspace, params: Params, embodiment: Embodiment) -> dict[str, Any]:
    from posa_vla.dataset.code import data_code
    from posa_vla.episodes.store.episode_store import EpisodeStore

    return {
        "store": EpisodeStore(workspace.store).digest(),
        "embodiment": embodiment.digest,
        "params": params.model_dump(mode="json", include={"validation", "prepare"}),
        "remote": workspace.named(workspace.dvc_remote),
        "code": data_code(),
    }


def _is_there(workspace: Workspace, output: dict[str, Any]) -> bool:
    """Whether the prepared data are what they were: nothing is trained on bytes that have changed."""
    folder = workspace.home / str(output["folder"])
    if not (folder / "manifest.json").is_file():
        return False
    # Outputs of before it was recorded name no digest.
    return "prepared" not in output or sha256_tree(folder) == output["prepared"]


def find_data(retraining: Retraining) -> dict[str, Any] | None:
    """The data version of the store as it is, where it has been made; see `version_data`."""
    inputs = _version_inputs(retraining.workspace, retraining.params, retraining.embodiment)
    output = retraining.ledger.find("version", inputs)
    return output if output is not None and _is_there(retraining.workspace, output) else None


def version_data(retraining: Retraining) -> dict[str, Any]:
    """Versions the whole store for a retraining; see `version_store`."""
    return retraining.keep(version_store(retraining.workspace, retraining.params, retraining.embodiment))


def version_store(workspace: Workspace, params: Params, embodiment: Embodiment) -> StepResult:
    """Versions the whole store: DVC validates and prepares it, keeps the bytes and pushes them; git keeps the history.

    Another run that changes the store or its history is waited for.

    Returns:
        The step; its output has `version`, `name`, `folder` (relative to the workspace), `episodes`, `frames`,
        `commit`.

    Raises:
        BadInput: The store has lost a batch, or a checkout was cut off.
        Busy: Another run went on changing them for too long.
    """
    from posa_vla.dataset.versions.store_state import require_whole, write_state
    from posa_vla.episodes.store.episode_store import EpisodeStore

    def work(key: str) -> dict[str, Any]:
        from posa_vla.dataset.versions import make as versioning

        data = versioning.version_data(workspace, params, embodiment)
        return {
            "version": data.version,
            "name": data.name,
            "folder": data.folder.relative_to(workspace.home).as_posix(),
            "episodes": data.episodes,
            "frames": data.frames,
            "commit": data.commit,
            "prepared": data.prepared,
        }

    with workspace.lock("a data version", "data.lock", wait=DATA_WAIT):
        require_whole(workspace)
        inputs = _version_inputs(workspace, params, embodiment)
        result = Ledger(workspace).step("version", inputs, work, sound=lambda output: _is_there(workspace, output))
        if result.status == "reused" and "name" in result.output:
            output = result.output
            write_state(workspace, output["name"], output["version"], EpisodeStore(workspace.store).batches())
        return result
