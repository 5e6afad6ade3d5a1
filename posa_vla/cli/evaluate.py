"""`posa evaluate`: how good is a policy."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from posa_vla.cli.options import (
    AsJson,
    ParamsFile,
    Preset,
    Set,
    WorkspaceFolder,
    enter_workspace,
    read_params,
)

app = typer.Typer(help="Run a policy; measure its success, with an interval.", no_args_is_help=True)


@app.callback()
def root() -> None:
    """Run a policy, and say how good it is and how sure that is."""


@app.command()
def sim(
    policy: Annotated[Path, typer.Option("--policy", help="Folder that `posa train` printed, or a bundle.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of this evaluation: rows, videos, evidence.json.")],
    local: Annotated[bool, typer.Option("--local", help="Run in this process, without Ray.")] = False,
    preset: Preset = None,
    settings: Set = None,
    params_file: ParamsFile = Path("params.yaml"),
    as_json: AsJson = False,
) -> None:
    """Run a policy in simulation on scenes that its own digest picks; the same command continues a killed one.

    It is executed as it was judged or made for. What the parameters name of `evaluate.execute`, `committed`,
    `ensemble`, `flow_steps` and `start_noise` counts instead, and is said where it differs.
    """
    from posa_vla.code_digest import code_digest
    from posa_vla.console import print_json, print_table, say
    from posa_vla.evaluation.local import evaluate
    from posa_vla.evaluation.rollout import require_rendered
    from posa_vla.evidence.record import write_evidence
    from posa_vla.evidence.suite import Suite
    from posa_vla.evidence.summary import Summary
    from posa_vla.model.posa_policy import load_policy
    from posa_vla.pipeline.target import require_simulator
    from posa_vla.policy.execution import asked_execution
    from posa_vla.policy.made_for import own_execution, said_execution
    from posa_vla.release.bundle import sealed_policy
    from posa_vla.seeds import scene_seeds
    from posa_vla.settings import Settings
    from posa_vla.sim.gl import require_gl

    params = read_params(params_file, preset, settings)
    require_simulator(params, "posa evaluate sim")
    require_gl()
    out = out.resolve()
    bundle = sealed_policy(policy, out / "bundles")
    loaded = load_policy(bundle.folder, bundle.digest)
    folder = f"evaluations/{code_digest('posa_vla.evaluation')}/{bundle.digest}"
    require_rendered(params, loaded.config.image_size, f"{bundle.folder}/config.json: image_size")
    own, known = own_execution(bundle.folder, loaded.flow_steps), said_execution(bundle.folder) is not None
    way = asked_execution(params.evaluate, own)
    differing = way.otherwise(own)
    if not known:
        say(f"bundle {bundle.digest[:12]} does not say what it was judged with: it runs as all bundles of its time did")
    elif differing:
        said = ", ".join(f"{name} {asked} (judged: {judged})" for name, (asked, judged) in differing.items())
        say(f"this result is not of the execution that bundle {bundle.digest[:12]} was judged with: {said}")
    suite = Suite.of(params, scene_seeds(bundle.digest, params.evaluate.episodes)).run_as(way)
    if local:
        evidence = evaluate(loaded, suite, out / folder)
    else:
        from posa_vla.evaluation.submit import evaluate_as_job
        from posa_vla.objects.open import open_objects
        from posa_vla.ray_jobs import open_jobs

        chosen = Settings()
        storage = open_objects(chosen.storage or str(out))
        with open_jobs(chosen) as jobs:
            evidence = evaluate_as_job(jobs, storage, bundle, suite, folder)
    write_evidence(out / "evidence.json", evidence)
    figures = Summary.of(evidence).model_dump(mode="json")
    if as_json:
        document = {"bundle": bundle.digest, "as_judged": not differing if known else None, "evidence": evidence.digest}
        print_json({**document, "evaluation": figures, "out": str(out)})
        return
    rows = [(name, "none" if value is None else f"{value:.4g}") for name, value in figures.items()]
    print_table("posa evaluate sim", [("bundle", bundle.digest), *rows, ("evidence", str(out / "evidence.json"))])


@app.command()
def offline(
    model_version: Annotated[
        str | None, typer.Option("--model-version", help="Of the target's registered model; by default the newest.")
    ] = None,
    policy: Annotated[
        Path | None, typer.Option("--policy", help="Folder that `posa train` printed, or a bundle, instead.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option("--data", help="Prepared data with held-out episodes; by default the model's own.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="Folder of the page and of the films.")] = Path("offline"),
    preset: Preset = None,
    settings: Set = None,
    params_file: ParamsFile = Path("params.yaml"),
    workspace_folder: WorkspaceFolder = None,
    as_json: AsJson = False,
) -> None:
    """Compare a policy's actions with those of held-out episodes: no evidence of success.

    Errors of each channel in its unit, against holding the pose and against the nearest demonstration; anchors against
    their labels, and the times at which grippers are told to open and close.
    """
    from posa_vla.console import print_json, print_table, say
    from posa_vla.errors import BadInput
    from posa_vla.evidence.offline import NO_EVIDENCE
    from posa_vla.pipeline.offline_evaluation import compare_offline
    from posa_vla.workspace import Workspace

    params = read_params(enter_workspace(workspace_folder, params_file), preset, settings)
    if policy is not None and (data is None or model_version is not None):
        raise BadInput("--policy goes with --data DIR, prepared data, and without --model-version")
    done = compare_offline(
        Workspace.open(), params, out.resolve(), model_version=model_version, policy=policy, data=data
    )
    if as_json:
        print_json(done.model_dump(mode="json"))
        return
    say(NO_EVIDENCE)
    print_table("posa evaluate offline", done.rows())


@app.command()
def compare(
    a: Annotated[str, typer.Argument(help="Model version of the target, or a folder with a policy or bundle.")],
    b: Annotated[str, typer.Argument(help="Likewise: what A is held against.")],
    episodes: Annotated[int, typer.Option("--episodes", min=1, help="Scenes at most.")] = 200,
    margin: Annotated[float, typer.Option("--margin", help="Loss that is accepted; 0: is A superior to B?")] = 0.0,
    level: Annotated[float, typer.Option("--level", help="Chance of a false promote, at most.")] = 0.05,
    out: Annotated[Path, typer.Option("--out", help="Folder of the page and of the evidence.")] = Path("comparison"),
    preset: Preset = None,
    settings: Set = None,
    params_file: ParamsFile = Path("params.yaml"),
    workspace_folder: WorkspaceFolder = None,
    as_json: AsJson = False,
) -> None:
    """Run two policies in simulation on the same scenes until it is clear which is better.

    The scenes are not those that the gate judges on. Nothing is promoted, and nothing enters the target's account.
    """
    from posa_vla.console import print_json, print_table
    from posa_vla.pipeline.comparison import compare as compare_policies
    from posa_vla.workspace import Workspace

    params = read_params(enter_workspace(workspace_folder, params_file), preset, settings)
    found = compare_policies(
        Workspace.open(), params, (a, b), out.resolve(), episodes=episodes, margin=margin, level=level
    )
    if as_json:
        print_json(found.to_json())
        return
    rows = [(name, summary.in_words()) for name, summary in zip(found.names, found.summaries, strict=True)]
    print_table("posa evaluate compare", [*rows, ("verdict", found.judgement.sentence()), ("page", str(found.page))])
