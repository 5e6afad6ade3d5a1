"""A policy along held-out episodes, as its own command: of a registered model, or of a folder."""

from __future__ import annotations

from pathlib import Path

from posa_vla.dataset.shards.manifest import MANIFEST
from posa_vla.dataset.versions.checkout import prepared_data
from posa_vla.errors import BadInput
from posa_vla.evaluation.offline_films import kept_films
from posa_vla.evidence.offline import NO_EVIDENCE, OfflineEvidence, OfflineFigures, write_offline
from posa_vla.files import sha256_file, sha256_tree, write_text
from posa_vla.model.config import read_config
from posa_vla.objects.directory import DirectoryObjects
from posa_vla.params import Params
from posa_vla.pipeline.report.offline import offline_page
from posa_vla.pipeline.steps.judged import judged_with
from posa_vla.pipeline.steps.lineage import may_know, version_of
from posa_vla.pipeline.steps.offline import replay
from posa_vla.policy.made_for import own_execution
from posa_vla.promotion.champion import promotion_log
from posa_vla.promotion.verdict import offline_criteria
from posa_vla.release.bundle import MANIFEST as BUNDLE_MANIFEST
from posa_vla.release.bundle import verify_bundle
from posa_vla.release.bundle_store import bundle_at_hand
from posa_vla.schema import Closed
from posa_vla.workspace import Workspace

PAGE, RECORD = "offline.html", "offline.json"


class OfflineComparison(Closed):
    """The document of `posa evaluate offline --json`.

    Attributes:
        model_version: Version of the target's registered model; None for a folder.
        about: What these errors are not.
        figures: The errors in a few numbers.
        passed: Criterion -> whether the policy meets it.
        evidence: The whole record.
        page: File; `films` are those of the worst episodes.
    """

    model_version: str | None
    about: str
    figures: OfflineFigures
    passed: dict[str, bool | None]
    evidence: OfflineEvidence
    page: str
    films: list[str]

    def rows(self) -> list[tuple[str, str]]:
        """The short table."""
        answers = {True: "yes", False: "no", None: "not known"}
        return [
            ("policy", self.evidence.policy_digest),
            ("result", self.figures.in_words()),
            *((name, answers[passed]) for name, passed in self.passed.items()),
            ("page", self.page),
        ]


def compare_offline(
    workspace: Workspace,
    params: Params,
    out: Path,
    *,
    model_version: str | None = None,
    policy: Path | None = None,
    data: Path | None = None,
) -> OfflineComparison:
    """Evaluates a policy on the held-out episodes of prepared data, and writes page, record and films.

    Args:
        workspace: Has the registered model and its data version.
        params: Name the target.
        out: Folder.
        model_version: Of the target's registered model; the newest if None.
        policy: Folder of a policy or of a bundle, instead.
        data: Prepared data; of a registered model those that it was trained on if None.

    Raises:
        BadInput: There is no such version or policy, or the data do not fit it.
        PosaError: MLflow is away, or the data version's bytes are lost.
    """
    version, folder, digest, name = None, policy, "", ""
    if folder is not None:
        digest = folder.resolve().name
        if (folder / BUNDLE_MANIFEST).is_file():
            verify_bundle(folder, digest)
        way = own_execution(folder, read_config(folder).params.flow_steps)
    else:
        from posa_vla.promotion.registry import registered_version

        version = model_version or _newest(workspace, params.target)
        registered = registered_version(workspace.mlflow_uri, params.target, version)
        digest, name = registered.bundle, registered.data_version
        folder = bundle_at_hand(workspace, digest)
        way = judged_with(workspace, params.target, digest, folder)
    if data is None:
        data = prepared_data(workspace, name)[1]
    elif not (data / MANIFEST).is_file():
        raise BadInput(f"{data} is not prepared data (no {MANIFEST}): make it with `posa data prepare`")
    else:
        name = version_of(workspace, sha256_tree(data)) or sha256_file(data / MANIFEST)
    storage = DirectoryObjects(out.parent)
    evidence = replay(folder, digest, data, name, way, storage, out.name)
    evidence = evidence.model_copy(update={"may_know": may_know(workspace, digest, name)})
    write_offline(out / RECORD, evidence)
    films = kept_films(storage, out.name, evidence)
    write_text(out / PAGE, offline_page(evidence, films))
    criteria, _ = offline_criteria(evidence)
    return OfflineComparison(
        model_version=version,
        about=NO_EVIDENCE,
        figures=OfflineFigures.of(evidence),
        passed={criterion.name: criterion.passed for criterion in criteria},
        evidence=evidence,
        page=str(out / PAGE),
        films=[str(out / "films" / f"{number}.mp4") for number in films],
    )


def _newest(workspace: Workspace, target: str) -> str:
    entries = promotion_log(workspace, target).entries()
    if not entries:
        raise BadInput(f"target {target!r} has no registered model yet: `posa retrain` trains one")
    return max((entry.model_version for entry in entries), key=int)
