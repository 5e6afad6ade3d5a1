"""The conditions of an evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from posa_vla.files import sha256_json
from posa_vla.params import EvaluateParams, Params
from posa_vla.policy.execution import JUDGED, Execution, execution_of
from posa_vla.schema import Closed


class Suite(Closed):
    """The conditions of an evaluation; policies that ran the same suite can be compared pair by pair.

    Attributes:
        embodiment: Shipped name or file.
        task: Name of the task.
        seeds: Scenes.
        params: Limits.
        image_size: Pixels along each side of what the simulator's cameras show; a policy fits it into its own square.
        flow_steps: The policy's own (`Policy.flow_steps`): they count where the parameters name none.
    """

    embodiment: str
    task: str
    seeds: list[int]
    params: EvaluateParams
    image_size: int
    flow_steps: int | None = None

    @property
    def execution(self) -> Execution:
        """How the policy is run."""
        return execution_of(self.params, self.flow_steps)

    @staticmethod
    def of(params: Params, seeds: Sequence[int]) -> Suite:
        """The conditions that parameters state: the cameras are those that demonstrations are collected with."""
        target = params.chosen
        return Suite(
            embodiment=target.embodiment,
            task=target.task,
            seeds=list(seeds),
            params=params.evaluate,
            image_size=params.collect.image_size,
        )

    def run_as(self, way: Execution) -> Suite:
        """The same scenes under the same conditions for a policy that is run in another way; the step limit stays."""
        return self.model_copy(
            update={"params": self.params.model_copy(update={name: getattr(way, name) for name in JUDGED})}
        )

    def describe(self) -> dict[str, Any]:
        """JSON values that fix the conditions.

        The wording is left out where it is that of the demonstrations, as it was when no other could be asked for.
        """
        wording = self.params.wording
        return {
            "task": self.task,
            "embodiment": Path(self.embodiment).stem,
            "objects": self.params.objects,
            **self.execution.model_dump(mode="json"),
            "image_size": self.image_size,
            "perturb": self.params.perturb.model_dump(mode="json"),
            "held_out": list(self.params.held_out),
            "targets": list(self.params.targets),
            "seeds": sha256_json(self.seeds),
            **({} if wording == "trained" else {"wording": wording}),
        }
