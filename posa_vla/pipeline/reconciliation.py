"""Bring what outside servers show back to the truth of the workspace, and report what a person must look at."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from posa_vla.errors import BadInput, PosaError
from posa_vla.params import Params
from posa_vla.pipeline.steps.release import refresh_channel
from posa_vla.promotion.champion import behind, promotion_log, promotions, released_targets, settle
from posa_vla.promotion.open_rollback import close_rollback, is_logged, open_rollback
from posa_vla.schema import Closed
from posa_vla.workspace import Workspace


class Finding(Closed):
    """One thing that was looked at.

    Attributes:
        what: What was looked at.
        found: What was found.
        done: What was done about it; empty for nothing.
        sound: False where a person must look.
    """

    what: str
    found: str
    done: str = ""
    sound: bool = True


def reconcile_workspace(
    workspace: Workspace, params: Params, close_silent_runs: Callable[[], list[str]] | None = None
) -> list[Finding]:
    """Looks at every target's alias, at the channel's age, at jobs of the Ray cluster, and at Prefect's running flows.

    Publishes what a killed release left undone, sets an alias back to the log's champion, signs channel metadata past
    half its life, closes runs whose process is gone; jobs are reported, not stopped. A server that is away is a
    finding, and the rest is looked at.

    Args:
        workspace: Whose truth counts.
        params: Name the targets.
        close_silent_runs: Marks flow runs whose process is gone as crashed, and returns their names; without it they
            are not looked at.
    """
    looks: list[tuple[str, Callable[[], Iterator[Finding]]]] = [
        ("releases", lambda: _releases(workspace, params.targets)),
        ("aliases", lambda: _aliases(workspace, params.targets)),
        ("release channel", lambda: _channel(workspace)),
        ("Ray jobs", lambda: _jobs(workspace)),
        ("flow runs", lambda: _flow_runs(workspace, close_silent_runs)),
    ]
    return [finding for what, look in looks for finding in _as_far_as_it_goes(what, look())]


def continue_releases(workspace: Workspace) -> list[Finding]:
    """Brings channel and alias of every target that has released to what its promotion log says.

    What cannot be brought there is a finding, and hinders no other target.
    """
    targets = released_targets(workspace)
    return [*_releases(workspace, targets), *_as_far_as_it_goes("aliases", _aliases(workspace, targets))]


def _as_far_as_it_goes(what: str, look: Iterator[Finding]) -> Iterator[Finding]:
    try:
        yield from look
    except PosaError as error:
        yield Finding(what=what, found=str(error), sound=False)


def _releases(workspace: Workspace, targets: Iterable[str]) -> Iterator[Finding]:
    for target in targets:
        what = f"release of {target}"
        yield from _as_far_as_it_goes(what, _release(workspace, target, what))


def _release(workspace: Workspace, target: str, what: str) -> Iterator[Finding]:
    done = "published what the log names" if settle(workspace, target) else ""
    found = "the channel was behind the log" if done else "log, record and channel agree"
    yield Finding(what=what, found=found, done=done)


def _aliases(workspace: Workspace, targets: Iterable[str]) -> Iterator[Finding]:
    from posa_vla.promotion.registry import champion_version, set_champion, version_to_show

    for target in targets:
        what = f"alias champion of {target}"
        with promotions(workspace, "a reconciliation"):
            try:
                entry = promotion_log(workspace, target).champion()
            except BadInput as error:  # of this target alone; a registry that is away is away for all
                yield Finding(what=what, found=str(error), sound=False)
                continue
            wanted = None
            if entry is not None:
                wanted = version_to_show(workspace.mlflow_uri, target, entry.model_version, entry.bundle)
            found = champion_version(workspace.mlflow_uri, target)
            if found == wanted:
                _close_finished(workspace, target)
                yield Finding(what=what, found=f"version {found}" if found else "none yet")
            elif wanted is None:
                text = f"version {found}, and the promotion log knows no champion: remove the alias"
                yield Finding(what=what, found=text, sound=False)
            elif set_champion(workspace.mlflow_uri, target, wanted):
                _close_finished(workspace, target)
                yield Finding(what=what, found=f"version {found}", done=f"set to version {wanted}, as the log has it")
            else:
                _close_finished(workspace, target)
                yield Finding(what=what, found=f"none: version {wanted}, the champion, was deleted in MLflow")


def _close_finished(workspace: Workspace, target: str) -> None:
    """Takes a rollback off the record that log, channel and alias have followed."""
    opened = open_rollback(workspace, target)
    if opened is None or (is_logged(workspace, opened) and not behind(workspace, target)):
        close_rollback(workspace, target)


def _channel(workspace: Workspace) -> Iterator[Finding]:
    signed = refresh_channel(workspace)
    yield Finding(
        what="release channel",
        found="past half its life" if signed else "fresh, or empty",
        done="timestamp and snapshot signed anew" if signed else "",
    )


def _jobs(workspace: Workspace) -> Iterator[Finding]:
    if not workspace.settings.ray_address:
        return
    from posa_vla.ray_jobs import open_jobs

    with open_jobs(workspace.settings, patience=10) as jobs:
        active = jobs.active()
    held = workspace.held()
    for name in active:
        if held:
            yield Finding(what=f"Ray job {name}", found="running, and so is a flow on this workspace")
        else:
            text = f"running without a flow; the next run of the flow joins it, or stop it: ray job stop {name}"
            yield Finding(what=f"Ray job {name}", found=text, sound=False)
    if not active:
        yield Finding(what="Ray jobs", found="none is running")


def _flow_runs(workspace: Workspace, close_silent_runs: Callable[[], list[str]] | None) -> Iterator[Finding]:
    if close_silent_runs is None or not workspace.settings.prefect_api_url:
        return
    silent = close_silent_runs()
    for name in silent:
        yield Finding(what=f"flow run {name}", found="no heartbeat: its process is gone", done="marked as crashed")
    if not silent:
        yield Finding(what="flow runs", found="every running one gives signs of life")
