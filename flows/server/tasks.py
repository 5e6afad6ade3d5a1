"""Steps as Prefect's tasks: a straight chain on its page, whose rows say what was made, and whether it was reused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, Generic, Protocol, TypeVar, overload

from prefect import State, task
from prefect.cache_policies import NO_CACHE
from prefect.states import Completed

from posa_vla.pipeline.context import StepContext
from posa_vla.pipeline.summary import Arrow, made

Made = TypeVar("Made", bound=Arrow)
MadeOnly = TypeVar("MadeOnly", bound=Arrow, covariant=True)
Given = TypeVar("Given", bound=Arrow)
GivenOnly = TypeVar("GivenOnly", bound=Arrow, contravariant=True)


class Handed(Generic[MadeOnly]):
    """A record on its way from one task to the next.

    Prefect looks into the dataclasses and pydantic models among a task's arguments, and draws an edge from the task of
    every object in them that it has met as a result. A record holds all records before it, so that each task would hang
    on all earlier ones. It does not look into this.
    """

    def __init__(self, record: MadeOnly) -> None:
        self.record = record


class FirstTask(Protocol[MadeOnly]):
    """A task that is handed no record; `wait_for` names what has to be done before."""

    def __call__(self, context: StepContext, *, wait_for: Sequence[Handed[Any]] = ()) -> Handed[MadeOnly]:
        """Runs the task."""
        ...


class NextTask(Protocol[GivenOnly, MadeOnly]):
    """A task that is handed the record of the one before it."""

    def __call__(self, context: StepContext, given: Handed[GivenOnly]) -> Handed[MadeOnly]:
        """Runs the task."""
        ...


@overload
def step_task(step: Callable[[StepContext], Made]) -> FirstTask[Made]: ...
@overload
def step_task(step: Callable[[StepContext, Given], Made]) -> NextTask[Given, Made]: ...
def step_task(step: Callable[..., Any]) -> Callable[..., Handed[Any]]:
    """A task that does one step, with its name and description.

    Args:
        step: `step(context)` or `step(context, record)`; it notes its result in the context.
    """

    # What a step made lies in the workspace and in the ledger: Prefect keeps no copy.
    @task(name=step.__name__, cache_policy=NO_CACHE, persist_result=False)
    @wraps(step)
    def run(context: StepContext, *given: Handed[Any]) -> State[Handed[Any]]:
        record = step(context, *(handed.record for handed in given))
        reused = context.steps[-1].status == "reused"
        words = made(record) + (", reused" if reused else "")
        return Completed(name=words, message=f"{words} ({context.steps[-1].seconds:.1f} s)", data=Handed(record))

    def call(context: StepContext, *given: Handed[Any], wait_for: Sequence[Handed[Any]] = ()) -> Handed[Any]:
        state: Any = run(context, *given, wait_for=wait_for, return_state=True)
        handed: Handed[Any] = state.result()
        return handed

    return call
