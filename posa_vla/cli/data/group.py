"""`posa data`: episodes and training data, one step at a time."""

from __future__ import annotations

from contextlib import AbstractContextManager, chdir, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from posa_vla.cli.data.calibrate import calibrate
from posa_vla.cli.data.ingest import ingest, quarantine, release, remove
from posa_vla.cli.data.out import export, show
from posa_vla.cli.data.versions import checkout, diff, verify, versions
from posa_vla.cli.options import AsJson, ParamsFile, Preset, Set, WorkspaceFolder, enter_workspace, read_params

if TYPE_CHECKING:
    from posa_vla.episodes.embodiment import Embodiment
    from posa_vla.params import Params

app = typer.Typer(help="Collect, ingest, validate, prepare and version demonstrations.", no_args_is_help=True)
for command in (calibrate, ingest, quarantine, release, remove, versions, diff, checkout, verify, export, show):
    app.command()(command)

StoreOption = Annotated[Path | None, typer.Option("--store", help="Episode store; by default the workspace's.")]


def _from_there(folder: Path | None) -> AbstractContextManager[None]:
    """The workspace as working folder, for what its parameters name relative to it."""
    return nullcontext() if folder is None else chdir(folder)


def _declared(name: str, params: Params, place: Path, store: Path) -> dict[str, Embodiment]:
    """Id -> embodiment: the one that was named alone, else what is declared of the store's robots and the target's."""
    from posa_vla.episodes.embodiment import load_embodiment
    from posa_vla.episodes.store.declared import declared_embodiments
    from posa_vla.episodes.store.episode_store import EpisodeStore

    if name:
        named = load_embodiment(name)
        return {named.id: named}
    return declared_embodiments(EpisodeStore(store), params, place.parent)


def _store(folder: Path | None) -> Path:
    from posa_vla.workspace import Workspace

    return Workspace.open().store if folder is None else folder


@app.command()
def collect(
    params_file: ParamsFile = Path("params.yaml"),
    preset: Preset = None,
    settings: Set = None,
    policy: Annotated[
        str, typer.Option("--policy", help="First digits of a bundle: its rollouts, relabelled by the expert (DAgger).")
    ] = "",
    workspace_folder: WorkspaceFolder = None,
    as_json: AsJson = False,
) -> None:
    """Have the simulator's expert demonstrate the target's task, and append the episodes to the store."""
    from flows.server.events import announce
    from posa_vla.console import print_json, print_table
    from posa_vla.episodes.store.quarantine import by_prefix
    from posa_vla.pipeline.context import open_context
    from posa_vla.pipeline.steps.collect import collect as collect_demonstrations
    from posa_vla.pipeline.steps.judged import judged_with
    from posa_vla.release.bundle import verify_bundle
    from posa_vla.sim.collect import Learner
    from posa_vla.workspace import Workspace

    params = read_params(enter_workspace(workspace_folder, params_file), preset, settings)
    workspace = Workspace.open()
    with (
        _from_there(workspace_folder),
        open_context(workspace, params, "posa data collect", announce, jobs=False) as context,
    ):
        learner = None
        if policy:
            digest = by_prefix(policy, (p.name for p in workspace.bundles.glob("*") if p.is_dir()), "bundle")
            verify_bundle(workspace.bundles / digest, digest)
            way = judged_with(workspace, params.target, digest)
            learner = Learner(workspace.bundles / digest, digest, way)
            if "execute" not in params.collect.model_fields_set:
                executed = params.collect.model_copy(update={"execute": way.execute})
                context.params = params.model_copy(update={"collect": executed})
        batch = collect_demonstrations(context, learner).batch
    if as_json:
        print_json({"batch": batch, "episodes": params.collect.episodes, "store": str(workspace.store)})
    else:
        print_table("collected", [("batch", batch), ("episodes", str(params.collect.episodes))])


@app.command("list")
def list_batches(store: StoreOption = None, workspace_folder: WorkspaceFolder = None, as_json: AsJson = False) -> None:
    """Show the batches of the episode store, and those that were taken out."""
    from posa_vla.console import print_json, print_table
    from posa_vla.episodes.store.episode_store import EpisodeStore

    enter_workspace(workspace_folder, Path("params.yaml"))
    episode_store = EpisodeStore(_store(store))
    replaced = episode_store.replaced()
    rows = [
        {
            "batch": batch,
            "embodiment": reader.embodiment.id,
            "episodes": len(reader),
            "frames": sum(record.length for record in reader.records),
            "successes": sum(record.extra.success for record in reader.records),
            "superseded": sum(record.extra.digest in replaced for record in reader.records),
        }
        for batch, reader in episode_store.readers()
    ]
    out = [{"folder": str(folder), **record.model_dump()} for folder, record in episode_store.removed().items()]
    if as_json:
        found = {"store": str(episode_store.root), "digest": episode_store.digest(), "batches": rows, "removed": out}
        print_json(found)
    else:
        text = "{embodiment}, {episodes} episodes ({successes} successful, {superseded} superseded), {frames} frames"
        taken = [(str(row["batch"]), f"taken out by {row['who']}: {row['reason']}; {row['folder']}") for row in out]
        print_table(f"{episode_store.root}", [(str(row["batch"]), text.format(**row)) for row in rows] + taken)


@app.command()
def validate(
    store: StoreOption = None,
    params_file: ParamsFile = Path("params.yaml"),
    preset: Preset = None,
    settings: Set = None,
    embodiment: Annotated[
        str, typer.Option("--embodiment", help="Name or file; by default all that are declared.")
    ] = "",
    out: Annotated[Path | None, typer.Option("--out", help="Where the report goes (JSON).")] = None,
    page: Annotated[Path | None, typer.Option("--page", help="Where the report goes as a page (HTML).")] = None,
    metrics: Annotated[Path | None, typer.Option("--metrics", help="Where its counts go (JSON, for DVC).")] = None,
    plots: Annotated[Path | None, typer.Option("--plots", help="Folder of its plots (CSV, for DVC).")] = None,
    workspace_folder: WorkspaceFolder = None,
    as_json: AsJson = False,
) -> None:
    """Check every episode; severe findings keep an episode out of training."""
    from posa_vla.console import print_json, print_table
    from posa_vla.dataset.validation.report_page import metrics_of, page_of, write_plots
    from posa_vla.dataset.validation.validate import validate as validate_store
    from posa_vla.episodes.store.episode_store import EpisodeStore
    from posa_vla.files import write_json, write_text
    from posa_vla.workspace import Workspace

    place = enter_workspace(workspace_folder, params_file)
    params, folder = read_params(place, preset, settings), _store(store)
    report = validate_store(
        folder,
        params.validation,
        declared=_declared(embodiment, params, place, folder),
        validation_fraction=params.prepare.validation_fraction,
        cache=Workspace.open().validated,
    )
    if out is not None:
        write_json(out, report.model_dump(mode="json"))
    if page is not None:
        write_text(page, page_of(EpisodeStore(folder), report))
    if metrics is not None:
        write_json(metrics, metrics_of(report))
    if plots is not None:
        write_plots(EpisodeStore(folder), report, plots)
    if as_json:
        print_json(report.model_dump(mode="json"))
    else:
        found = [(rule, str(count)) for rule, count in report.rules.items()]
        rows = [(name, str(getattr(report, name))) for name in ("batches", "episodes", "frames")]
        print_table("validated", [*rows, ("quarantined", str(len(report.quarantined))), *found])


@app.command()
def prepare(
    out: Annotated[Path, typer.Option("--out", help="Folder of the training shards; must not exist.")],
    store: StoreOption = None,
    report: Annotated[
        Path | None, typer.Option("--report", help="Validation report; by default it is made now.")
    ] = None,
    statistics: Annotated[Path | None, typer.Option("--statistics", help="Where counts and statistics go.")] = None,
    embodiment: Annotated[str, typer.Option("--embodiment", help="Name or file; by default the target's.")] = "",
    selection: Annotated[
        Path | None, typer.Option("--selection", help="Filter of the episodes (JSON); by default the target's.")
    ] = None,
    params_file: ParamsFile = Path("params.yaml"),
    preset: Preset = None,
    settings: Set = None,
    workspace_folder: WorkspaceFolder = None,
    as_json: AsJson = False,
) -> None:
    """Label and pack validated episodes into training shards."""
    from posa_vla.console import print_json, print_table
    from posa_vla.dataset.shards.prepare import prepare as prepare_store
    from posa_vla.dataset.shards.spread import still_channels
    from posa_vla.dataset.validation.report import read_report
    from posa_vla.dataset.validation.validate import validate as validate_store
    from posa_vla.dataset.versions.selection import read_selection
    from posa_vla.episodes.embodiment import load_embodiment
    from posa_vla.errors import BadInput
    from posa_vla.files import read_json, write_json
    from posa_vla.pipeline.target import filter_for

    place = enter_workspace(workspace_folder, params_file)
    params = read_params(place, preset, settings)
    if out.exists():
        raise BadInput(f"{out} exists already: choose a new folder, or delete it")
    folder = _store(store)
    beside = place.parent / params.chosen.embodiment
    chosen = load_embodiment(embodiment or (str(beside) if beside.is_file() else params.chosen.embodiment))
    if report is not None:
        found = read_report(report)
    else:
        declared = {**_declared("", params, place, folder), chosen.id: chosen}
        share = params.prepare.validation_fraction
        found = validate_store(folder, params.validation, declared=declared, validation_fraction=share)
    where = filter_for(params, chosen.id) if selection is None else read_selection(selection)
    manifest = prepare_store(folder, found, chosen, params.prepare, out, where)
    still = still_channels(chosen, read_json(out / "normalisation.json"))
    if statistics is not None:
        kept = manifest.model_dump(mode="json", include={"splits", "labels"})
        write_json(statistics, {**kept, "normalisation": read_json(out / "normalisation.json")})
    if as_json:
        print_json({**manifest.model_dump(mode="json"), "still": still})
    else:
        splits = [(name, f"{n.episodes} episodes, {n.frames} frames") for name, n in manifest.splits.items()]
        print_table("prepared", [("folder", str(out)), *splits])


@app.command()
def code(
    out: Annotated[Path, typer.Option("--out", help="Where the digest goes (JSON).")], as_json: AsJson = False
) -> None:
    """Write down a digest of the code that makes training data; the DVC stages depend on it."""
    from posa_vla.console import print_json
    from posa_vla.dataset.code import data_code
    from posa_vla.files import write_json

    digest = data_code()
    write_json(out, digest)
    if as_json:
        print_json(digest)


@app.command()
def version(
    params_file: ParamsFile = Path("params.yaml"),
    preset: Preset = None,
    settings: Set = None,
    workspace_folder: WorkspaceFolder = None,
    as_json: AsJson = False,
) -> None:
    """Version the store: validate and prepare it under DVC, push the episodes, commit the history."""
    from posa_vla.console import print_json, print_table
    from posa_vla.pipeline.context import open_context
    from posa_vla.pipeline.steps.version import version as version_data
    from posa_vla.workspace import Workspace

    params = read_params(enter_workspace(workspace_folder, params_file), preset, settings)
    workspace = Workspace.open()
    with _from_there(workspace_folder), open_context(workspace, params, "posa data version", jobs=False) as context:
        values = version_data(context).model_dump(mode="json")
    if as_json:
        print_json(values)
    else:
        print_table("data version", [(name, str(value)) for name, value in values.items()])
