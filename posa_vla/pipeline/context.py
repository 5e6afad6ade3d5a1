"""What steps share: workspace, parameters, ledger, jobs of Ray, the MLflow run; what costs is started when needed."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from posa_vla.code_digest import code_digest
from posa_vla.dataset.shards.manifest import read_manifest
from posa_vla.dataset.versions.history_tools import require_tools
from posa_vla.dataset.versions.record import DataVersion
from posa_vla.episodes.embodiment import Embodiment, embodiment_file, load_embodiment
from posa_vla.errors import BadInput
from posa_vla.files import canonical_json, require_free_space, sha256_file, sha256_json
from posa_vla.ledger import Ledger, Record, StepResult
from posa_vla.model.settled import settled
from posa_vla.params import Params, TargetParams
from posa_vla.pipeline.announcements import Announce, silent
from posa_vla.pipeline.target import collects
from posa_vla.processes import set_variables
from posa_vla.promotion.robots_trust import require_approvable
from posa_vla.ray_cluster import require_cluster
from posa_vla.release.code_state import code_state, require_code_state
from posa_vla.run_page import Source
from posa_vla.workspace import Workspace

if TYPE_CHECKING:
    from posa_vla.ray_jobs import Jobs
    from posa_vla.tracking import TrackedRun

# Room for checkpoints, bundles, MLflow and Ray's session; and on how many places the images lie (parts, store, cache,
# remote, clone, prepared data), with head room.
_BYTES_FIXED = 1_500_000_000
_COPIES_OF_DATA = 8


class StepContext:
    """What the steps of one retraining, or of another procedure, share.

    No dataclass: Prefect looks into those among a task's arguments, and takes what it finds for results of other tasks.

    Attributes:
        workspace: Where everything is written.
        params: Resolved parameters.
        steps: Results of the steps so far, in order.
        experiment: MLflow's experiment; that of the target if empty.
        host: Another one whose cluster is used, if any.
        announce: Told of what people wait for.
    """

    def __init__(
        self,
        workspace: Workspace,
        params: Params,
        *,
        experiment: str = "",
        host: StepContext | None = None,
        announce: Announce = silent,
    ) -> None:
        self.workspace, self.params = workspace, params
        self.experiment, self.host, self.announce = experiment, host, announce
        self.steps: list[StepResult[Any]] = []
        self._resources = ExitStack()
        self._tracked: TrackedRun | None = None
        self._jobs: Jobs | None = None

    @property
    def target(self) -> TargetParams:
        """The chosen target."""
        return self.params.chosen

    @property
    def embodiment(self) -> Embodiment:
        """The target's embodiment."""
        return load_embodiment(self.target.embodiment)

    @property
    def collects(self) -> bool:
        """Whether the simulator's expert demonstrates first."""
        return collects(self.params, self.embodiment)

    @property
    def simulates(self) -> bool:
        """Whether candidates are judged in simulation."""
        return "simulation" in self.target.evidence

    def embodiment_key(self) -> dict[str, str]:
        """Digests of the embodiment's declaration and of its arm model."""
        declared = self.embodiment
        key = {"declaration": declared.digest}
        if declared.arm is not None:
            key["arm"] = sha256_file(embodiment_file(self.target.embodiment).parent / declared.arm.mjcf)
        return key

    @property
    def ledger(self) -> Ledger:
        """Finished steps."""
        return Ledger(self.workspace)

    def keep(self, result: StepResult[Record]) -> Record:
        """Notes a step's result; returns its record."""
        self.steps.append(result)
        return result.record

    def run_key(self, data_version: str) -> str:
        """Key of the one MLflow run of this retraining: what is trained, on what, by which code."""
        return sha256_json(
            {
                "data_version": data_version,
                "params": self.params.model_dump(mode="json"),
                "code": code_digest("posa_vla", "flows"),
            }
        )

    def jobs(self) -> Jobs:
        """Jobs of the Ray cluster; a local one is started at the first call and ends with the context."""
        if self.host is not None:
            return self.host.jobs()
        if self._jobs is None:
            from posa_vla.ray_jobs import open_jobs

            jobs = open_jobs(self.workspace.settings, at_least=self.params.train.processors)
            self._jobs = self._resources.enter_context(jobs)
        return self._jobs

    def _settled(self, data: DataVersion) -> Params:
        """The parameters with what the training settles on its data; as they are where those are not at hand.

        A gate that the policy decides which the training starts from stays as it was asked for.
        """
        try:
            manifest = read_manifest(self.workspace.home / data.folder)
        except BadInput:
            return self.params
        if self.target.start_from != "scratch" and self.params.model.gate == "auto" and not self.experiment:
            model = self.params.model.with_horizon(manifest.embodiment.control_hz)
            return self.params.model_copy(update={"model": model})
        return settled(self.params, manifest)

    def tracked(self, data: DataVersion) -> TrackedRun:
        """The MLflow run of a retraining on this data: found or created at the first call, ended with the context."""
        if self._tracked is None:
            from posa_vla import tracking
            from posa_vla.pipeline.report.preset import preset_of, run_name

            workspace, target = self.workspace, self.params.target
            key, code = self.run_key(data.version), code_state(workspace.settings)
            preset = preset_of(self.params)
            started_by = Source(
                run_name=run_name(preset, data.name, time.strftime("%Y-%m-%d %H:%M", time.gmtime())),
                name="posa ablate" if self.experiment else "posa retrain",
                on_server=bool(workspace.settings.prefect_api_url),
                commit=code.commit,
                dirty=code.dirty,
                about={"posa.target": target, "posa.preset": preset, "posa.data": data.name},
            )
            run = self._resources.enter_context(
                tracking.open_run(workspace.mlflow_uri, self.experiment or target, key, started_by)
            )
            # The parameters as they were trained with; what the artifact holds is what was asked for, which gives the
            # same again.
            run.log_params(self._settled(data).model_dump(mode="json"))
            source = {"remote": workspace.dvc_remote, "repository": str(workspace.repository), "commit": data.commit}
            size = {"episodes": data.episodes, "frames": data.frames}
            run.log_data(f"{target}-episodes", data.version, source, size)
            run.log_once(canonical_json(self.params.model_dump(mode="json")), tracking.PARAMS_ARTIFACT)
            reports = workspace.reports / data.version
            for report in sorted(reports.glob("report.*")) if reports.is_dir() else ():
                run.log_once(report.read_bytes(), f"data/{report.name}")
            self._tracked = run
        return self._tracked

    @contextmanager
    def resources(self) -> Iterator[None]:
        """Ends what the steps started, however the block ends."""
        with self._resources:
            yield

    def check(self, *, jobs: bool = True) -> None:
        """Stops before any work that could not be finished.

        Args:
            jobs: Whether the work has jobs of Ray.

        Raises:
            BadInput: No GL library, no git, no commit of the code, or too little memory or room on the disk.
        """
        from posa_vla.sim.gl import require_gl
        from posa_vla.sim.parts import pictures_bytes

        if self.embodiment.arm is not None:
            require_gl()
        require_approvable(self.params, self.embodiment)
        require_tools()
        require_code_state(self.workspace.settings)
        if jobs:
            require_cluster(self.workspace.settings)
        images = pictures_bytes(self.params.collect, len(self.embodiment.cameras)) if self.collects else 0
        require_free_space(self.workspace.home, _BYTES_FIXED + _COPIES_OF_DATA * images, "a retraining")


@contextmanager
def open_context(
    workspace: Workspace, params: Params, purpose: str, announce: Announce = silent, *, jobs: bool = True
) -> Iterator[StepContext]:
    """Checks what is needed, holds the workspace, and ends what the steps started.

    Args:
        workspace: Is held.
        params: Resolved.
        purpose: What for; who finds the workspace held is told.
        announce: Told of what people wait for.
        jobs: Whether the work has jobs of Ray.

    Raises:
        BadInput: See `StepContext.check`.
        Busy: Another run holds the workspace.
    """
    context = StepContext(workspace, params, announce=announce)
    context.check(jobs=jobs)
    threads = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS") or "1"}
    with workspace.lock(purpose), set_variables(threads), context.resources():
        yield context


def timed(start: float) -> float:
    """Seconds since `start`, to a tenth."""
    return round(time.monotonic() - start, 1)
