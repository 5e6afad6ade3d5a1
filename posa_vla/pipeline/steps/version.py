"""Version the episode store as training data."""

from __future__ import annotations

from posa_vla.dataset.versions.record import DataVersion
from posa_vla.episodes.embodiment import Embodiment
from posa_vla.files import sha256_tree
from posa_vla.ledger import Inputs, Ledger, StepResult
from posa_vla.params import Params
from posa_vla.pipeline.context import StepContext
from posa_vla.target_params import EVERYTHING, Where
from posa_vla.workspace import Workspace

# How long a run waits for another one that changes the store or its history (s).
DATA_WAIT = 3600.0


def _version_inputs(workspace: Workspace, params: Params, embodiment: Embodiment, where: Where) -> Inputs:
    from posa_vla.dataset.code import data_code
    from posa_vla.episodes.store.episode_store import EpisodeStore

    return {
        "store": EpisodeStore(workspace.store).digest(),
        "embodiment": embodiment.digest,
        "params": params.model_dump(mode="json", include={"validation", "prepare"}),
        "remote": workspace.named(workspace.dvc_remote),
        "code": data_code(),
        **({} if where == EVERYTHING else {"where": where.model_dump(mode="json")}),
    }


def _is_there(workspace: Workspace, data: DataVersion) -> bool:
    """Whether the prepared data are what they were: nothing is trained on bytes that have changed."""
    folder = workspace.home / data.folder
    return (folder / "manifest.json").is_file() and sha256_tree(folder) == data.prepared


def find_data(context: StepContext) -> DataVersion | None:
    """The data version of the store as it is, where it has been made; see `version`."""
    inputs = _version_inputs(context.workspace, context.params, context.embodiment, context.target.data.where)
    data = context.ledger.find("version", inputs, DataVersion)
    return data if data is not None and _is_there(context.workspace, data) else None


def version(context: StepContext) -> DataVersion:
    """Versions the store for a retraining; see `version_store`."""
    where = context.target.data.where
    return context.keep(version_store(context.workspace, context.params, context.embodiment, where))


def version_store(
    workspace: Workspace, params: Params, embodiment: Embodiment, where: Where = EVERYTHING
) -> StepResult[DataVersion]:
    """Versions the whole store: DVC validates and prepares it, keeps the bytes and pushes them; git keeps the history.

    `where` chooses which episodes of the embodiment are prepared; the version has them all.

    Another run that changes the store or its history is waited for.

    Raises:
        BadInput: The store has lost a batch, or a checkout was cut off.
        Busy: Another run went on changing them for too long.
    """
    from posa_vla.dataset.versions.store_state import require_whole, write_state
    from posa_vla.episodes.store.episode_store import EpisodeStore

    def work(key: str) -> DataVersion:
        from posa_vla.dataset.versions.make import version_data

        return version_data(workspace, params, embodiment, where)

    with workspace.lock("a data version", "data.lock", wait=DATA_WAIT):
        require_whole(workspace)
        inputs = _version_inputs(workspace, params, embodiment, where)
        result = Ledger(workspace).step(
            "version", inputs, DataVersion, work, sound=lambda data: _is_there(workspace, data)
        )
        if result.status == "reused":
            data = result.record
            write_state(workspace, data.name, data.version, EpisodeStore(workspace.store).batches())
        return result
