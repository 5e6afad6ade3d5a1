"""The execution that a policy is made for, and the file that says it: `execution.json`, in bundles since it exists."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from posa_vla.files import canonical_json, read_json
from posa_vla.params import Params
from posa_vla.policy.execution import UNRECORDED, Execution, execution_of
from posa_vla.schema import Closed, parse

EXECUTION_FILE = "execution.json"


class MadeFor(Closed):
    """`execution.json`.

    Attributes:
        execution: What the policy was made for: it is judged with it, and run with it everywhere.
    """

    schema_version: Literal[1] = 1
    execution: Execution


def made_for(params: Params, flow_steps: int | None) -> Execution:
    """The execution that a policy which is made with these parameters is for: it is judged with it, and run with it.

    Where releases of the target are of record version 1, what nobody named is what older robots run such a release
    with, because the record cannot tell them: noise of scale 1, and the policy's own flow steps.

    Args:
        params: All parameters.
        flow_steps: The policy's own.

    Raises:
        BadInput: See `execution_of`.
    """
    evaluate = params.evaluate
    if params.chosen.record == 1:
        older = {"flow_steps": None, "start_noise": UNRECORDED.start_noise}
        unsaid = {name: value for name, value in older.items() if name not in evaluate.model_fields_set}
        evaluate = evaluate.model_copy(update=unsaid)
    return execution_of(evaluate, flow_steps)


def made_for_bytes(execution: Execution) -> bytes:
    """The file's content."""
    return canonical_json(MadeFor(execution=execution).model_dump(mode="json"))


def said_execution(folder: Path) -> Execution | None:
    """The execution that a policy's folder or bundle names; None where it was made before there was the file.

    Raises:
        BadInput: The file cannot be read, or does not fit the schema.
    """
    path = folder / EXECUTION_FILE
    return parse(MadeFor, read_json(path), str(path)).execution if path.exists() else None


def own_execution(folder: Path, flow_steps: int | None) -> Execution:
    """The execution of a policy's folder or bundle; without the file, what all policies were run with before it.

    Args:
        folder: Of the policy.
        flow_steps: Of its flow, as its configuration says.

    Raises:
        BadInput: See `said_execution`.
    """
    said = said_execution(folder)
    return UNRECORDED.model_copy(update={"flow_steps": flow_steps}) if said is None else said
