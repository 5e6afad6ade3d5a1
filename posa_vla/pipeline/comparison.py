"""Two policies in simulation on the same scenes, until it is clear which is better: evidence, and no decision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from posa_vla.code_digest import code_digest
from posa_vla.console import say
from posa_vla.errors import BadInput
from posa_vla.evidence.betting import fewest_values
from posa_vla.evidence.judgement import Judgement, judge_pairs, kind_of
from posa_vla.evidence.judgement_page import difference_chart, evidence_chart, judgement_page
from posa_vla.evidence.record import Evidence, evidence_path, read_evidence
from posa_vla.evidence.summary import Summary
from posa_vla.evidence.trials import read_trials
from posa_vla.evidence.verdict import claim_of
from posa_vla.files import sha256_json, write_json, write_text
from posa_vla.params import Params
from posa_vla.pipeline.context import StepContext, open_context
from posa_vla.pipeline.evaluation import RolledOut, bundle_of
from posa_vla.pipeline.steps.evaluate import EVALUATION_CODE, is_settled, looks, run_policy
from posa_vla.pipeline.steps.judged import judged_with
from posa_vla.pipeline.target import require_simulator
from posa_vla.release.bundle import Bundle, sealed_policy
from posa_vla.release.bundle_store import bundle_at_hand
from posa_vla.seeds import scene_seeds
from posa_vla.workspace import Workspace

PAGE = "comparison.html"


@dataclass(frozen=True)
class Comparison:
    """What was found.

    Attributes:
        names: The two policies as they were asked for, and their bundles.
        bundles: Digests.
        judgement: The first against the second.
        summaries: Figures of each.
        evidence: Digests of the rollouts.
        scenes: Scenes that were run, of `most`.
        most: Scenes that would have been.
        page: HTML file.
    """

    names: tuple[str, str]
    bundles: tuple[str, str]
    judgement: Judgement
    summaries: tuple[Summary, Summary]
    evidence: tuple[str, str]
    scenes: int
    most: int
    page: Path

    def to_json(self) -> dict[str, Any]:
        """The document of `posa evaluate compare --json`."""
        sides = zip(("a", "b"), self.names, self.bundles, self.evidence, self.summaries, strict=True)
        return {
            "schema_version": 1,
            **self.judgement.to_json(),
            "scenes": {"run": self.scenes, "at_most": self.most},
            **{
                side: {"name": name, "bundle": bundle, "evidence": evidence, "summary": summary.model_dump(mode="json")}
                for side, name, bundle, evidence, summary in sides
            },
            "page": str(self.page),
        }


def compare(
    workspace: Workspace,
    params: Params,
    names: tuple[str, str],
    out: Path,
    *,
    episodes: int,
    margin: float = 0.0,
    level: float = 0.05,
) -> Comparison:
    """Runs two policies on the same scenes, looks in between, and stops when the verdict is clear.

    The scenes are none that the gate judges either of them on, and are the same whichever comes first. Each policy runs
    as it was judged or made for. Nothing enters the target's account, and nothing is promoted.

    Args:
        workspace: Has the target's log and bundles.
        params: Name the target and the conditions.
        names: Model versions of the target, or folders (a bundle, or what `posa train` printed).
        out: Folder of page, drawings and both records of evidence.
        episodes: Scenes at most.
        margin: Loss that is accepted; 0 asks whether the first is superior.
        level: Chance of a false "promote".

    Raises:
        BadInput: There is no such policy, both are the same one, or the target has no simulator.
    """
    require_simulator(params, "a comparison in simulation")
    fewest = fewest_values(claim_of(kind_of(margin, level), margin), level)
    if fewest > episodes:
        raise BadInput(
            f"{episodes} scenes can never decide at level {level:g}: at least {fewest} are needed (--episodes), and "
            "`posa gate plan` says how many are likely to do"
        )
    sealed = tuple(_policy(workspace, params.target, name) for name in names)
    first, second = sealed
    if first.digest == second.digest:
        raise BadInput(
            f"{names[0]} and {names[1]} are the same policy ({first.digest[:12]}), which runs in one way: a policy "
            "cannot be compared with itself"
        )
    pair = sorted([first.digest, second.digest])
    with open_context(workspace, params, "a comparison") as context:
        seeds = scene_seeds(sha256_json(["compare", *pair]), episodes)
        for count in looks(episodes):
            evidence = [_rolled_out(context, bundle, seeds[:count]) for bundle in sealed]
            found = _judge(evidence, names, out, margin=margin, level=level)
            if found.verdict != "no decision":
                break
    if count < episodes:
        say(f"the verdict is clear after {count} of {episodes} scenes: the others are not run")
    write_text(out / "evidence.svg", evidence_chart(found))
    write_text(out / "difference.svg", difference_chart(found))
    notes = ["Scenes in simulation: a verdict on them says nothing of a robot, and nothing was promoted."]
    write_text(out / PAGE, judgement_page(found, *names, notes))
    ours, theirs = evidence
    return Comparison(
        names=names,
        bundles=(first.digest, second.digest),
        judgement=found,
        summaries=(Summary.of(ours), Summary.of(theirs)),
        evidence=(ours.digest, theirs.digest),
        scenes=count,
        most=episodes,
        page=out / PAGE,
    )


def _policy(workspace: Workspace, target: str, name: str) -> Bundle:
    """A model version of the target, or a folder, sealed among the workspace's bundles where it is none yet."""
    if name.isdecimal() and not Path(name).is_dir():
        digest = bundle_of(workspace, target, int(name))[1]
        return Bundle(digest, bundle_at_hand(workspace, digest))
    if not Path(name).is_dir():
        raise BadInput(f"{name} is neither a model version of target {target!r} nor a folder with a policy")
    return sealed_policy(Path(name), workspace.bundles)


def _rolled_out(context: StepContext, bundle: Bundle, seeds: Sequence[int]) -> Evidence:
    workspace = context.workspace
    way = judged_with(workspace, context.params.target, bundle.digest, bundle.folder)
    conditions = {
        "bundle": bundle.digest,
        "execution": way.model_dump(mode="json"),
        "embodiment": context.embodiment_key(),
        "task": context.target.task,
        "evaluate": context.params.evaluate.model_dump(mode="json", exclude={"episodes"}),
        "image_size": context.params.collect.image_size,
        "code": code_digest(EVALUATION_CODE),
    }
    # One folder for all looks, so that each goes on with the episodes of the one before.
    folder = f"evaluations/{sha256_json(conditions)}/{bundle.digest}"

    def work(_: str) -> RolledOut:
        return RolledOut(evidence=run_policy(context, bundle.digest, list(seeds), folder, way, bundle.folder).digest)

    done = context.ledger.step(
        "compare",
        {**conditions, "seeds": sha256_json(list(seeds))},
        RolledOut,
        work,
        sound=lambda made: is_settled(evidence_path(workspace, made.evidence)),
    )
    return read_evidence(evidence_path(workspace, context.keep(done).evidence))


def _judge(
    evidence: Sequence[Evidence], names: tuple[str, str], out: Path, *, margin: float, level: float
) -> Judgement:
    for side, (of, name) in enumerate(zip(evidence, names, strict=True)):
        broken = [row for row in of.rows if row.return_code != "ok"]
        if broken:
            crashed = all(row.return_code == "crashed" for row in broken)
            raise BadInput(
                f"{name}: {len(broken)} of {len(of.rows)} episodes have no valid outcome (first: scene "
                f"{broken[0].scene_seed}, {broken[0].return_code}): "
                f"{'run the same command again' if crashed else 'mend the policy, nothing can be said of it'}"
            )
        write_json(out / f"{'ab'[side]}.json", of.model_dump(mode="json"))
    sides = [read_trials(out / f"{letter}.json") for letter in "ab"]
    return judge_pairs(sides[0], sides[1], margin=margin, level=level, in_order=True)
