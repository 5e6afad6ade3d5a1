"""Who is told, what proposes a retraining, and which runs are dead: on a real Prefect server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any, TypeVar

import numpy as np
import pytest
from cheap_place import Place, make_place
from factories import make_episode
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.filters import FlowFilter, FlowFilterName
from prefect.client.schemas.objects import FlowRun
from prefect.events import Event as PrefectEvent
from prefect.events.worker import EventsWorker
from prefect.exceptions import Pause
from prefect.flow_engine import run_flow
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
    PREFECT_HOME,
    PREFECT_LOGGING_TO_API_ENABLED,
    temporary_settings,
)
from prefect.states import Completed, Pending, Running, Suspended

from flows.propose_retraining import NAME, pause_key, propose_retraining
from flows.server.automations import ensure_automations
from flows.server.events import announce
from flows.server.flow_runs import close_silent_runs
from flows.server.prefect_server import prefect_server
from posa_vla.errors import BadInput
from posa_vla.pipeline.steps.collect import collect
from posa_vla.shell import environment
from posa_vla.workspace import Workspace

T = TypeVar("T")
ROOT = Path(__file__).parents[3]


def until(look: Callable[[], T | None], seconds: float = 20) -> T:
    """The first thing that `look` finds."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = look()
        if found:
            return found
        Event().wait(0.1)
    raise AssertionError(f"nothing within {seconds} s")


@dataclass
class Hook:
    """A webhook that notes what it is told."""

    told: list[str] = field(default_factory=list)
    url: str = ""

    def find(self, *words: str) -> Callable[[], str | None]:
        return lambda: next((text for text in self.told if all(word in text for word in words)), None)


@pytest.fixture(scope="module")
def hook() -> Iterator[Hook]:
    hook = Hook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            hook.told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["text"])
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hook.url = f"http://127.0.0.1:{server.server_port}/secret-token"
    Thread(target=server.serve_forever, daemon=True).start()
    yield hook
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A workspace, and Prefect's server with the two deployments; nobody carries out what is scheduled there."""
    place = make_place(tmp_path_factory.mktemp("place"))
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PREFECT_API_URL", raising=False)
        for name, value in environment(place.workspace.settings).items():
            patch.setenv(name, value)
        patch.setenv("POSA_HOME", str(place.workspace.home))
        often = {"PREFECT_SERVER_SERVICES_PAUSE_EXPIRATIONS_LOOP_SECONDS": "0.5"}
        with prefect_server(place.workspace.home, place.workspace.settings, often) as server:
            server.ready()
            # Prefect has read its environment before this test set it.
            here = {
                PREFECT_API_URL: os.environ["PREFECT_API_URL"],
                PREFECT_HOME: Path(os.environ["PREFECT_HOME"]),
                PREFECT_LOGGING_TO_API_ENABLED: False,
                PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None,  # the end of a run waits up to a second for its thread
            }
            with temporary_settings(here):
                _deploy()
                yield place
                # What this process still has to tell, and would at its exit, when the server is gone.
                EventsWorker.drain_all(timeout=10, at_exit=False)


def _deploy() -> None:
    with get_client(sync_client=True) as client:
        client.create_work_pool(WorkPoolCreate(name="platform", type="process"))
        for name in (NAME, "retrain"):
            flow = client.create_flow_from_name(name)
            client.create_deployment(flow, "default", work_pool_name="platform")


def _runs(flow: str) -> list[FlowRun]:
    with get_client(sync_client=True) as client:
        return client.read_flow_runs(flow_filter=FlowFilter(name=FlowFilterName(any_=[flow])))


def _propose(place: Place, **parameters: Any) -> FlowRun:
    with get_client(sync_client=True) as client:
        deployment = client.read_deployment_by_name(f"{NAME}/default")
        given = {"params_file": place.params_file, "new_episodes": 2, **parameters}
        return client.create_flow_run_from_deployment(deployment.id, parameters=given)


def _carry_out(run: FlowRun) -> Any:
    """What a worker does with a run; None where it suspends."""
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(run.id, Pending())
        run = client.read_flow_run(run.id)
    try:
        return run_flow(propose_retraining, flow_run=run, parameters=run.parameters)
    except Pause:
        return None


def _automations() -> dict[str, int]:
    with get_client(sync_client=True) as client:
        names = [automation.name for automation in client.read_automations()]
    return {name: names.count(name) for name in names}


def test_automations_are_there_once_and_the_webhook_is_kept_secret(place: Place, hook: Hook) -> None:
    with pytest.raises(BadInput, match=r"expected http://... or https://..."):
        ensure_automations("hooks.example.com")
    assert len(ensure_automations("")) == 2
    names = ensure_automations(hook.url)
    with get_client(sync_client=True) as client:
        client.pause_automation(client.read_automations_by_name(names[0])[0].id)
        assert ensure_automations(hook.url) == names
        assert _automations() == dict.fromkeys(names, 1)
        assert not client.read_automations_by_name(names[0])[0].enabled  # somebody switched it off
        client.resume_automation(client.read_automations_by_name(names[0])[0].id)
        block = client.read_block_document_by_name("posa-webhook", "custom-webhook", include_secrets=False)
    assert "secret-token" not in json.dumps(block.data)
    ensure_automations("")
    assert len(_automations()) == 2
    ensure_automations(hook.url)


def test_a_batch_that_came_starts_the_flow_that_proposes(
    place: Place, hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    ensure_automations(hook.url)
    before = {run.id for run in _runs(NAME)}
    rng = np.random.default_rng(7)
    monkeypatch.setattr("posa_vla.sim.collect.collect", lambda *_, learner: [make_episode(rng) for _ in range(3)])
    place.announce = announce
    collect(place.context)
    collect(place.context)  # reused: nothing came

    def started() -> list[FlowRun]:
        return [run for run in _runs(NAME) if run.id not in before]

    assert until(started)[0].parameters == {"target": "t"}
    # From a process that ends at once, with nothing left to run at its exit.
    code = (
        "import os; from flows.server.events import announce; "
        "from posa_vla.pipeline.announcements import ApprovalNeeded; "
        "os._exit(not announce(ApprovalNeeded('t', 'release 4 waits')))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
    assert until(hook.find("Approval needed: t", "release 4 waits"))
    assert len(started()) == 1


def test_a_proposal_waits_for_a_person_who_starts_one_retraining(place: Place, hook: Hook) -> None:
    ensure_automations(hook.url)
    place.append(3, seed=11)
    assert "the threshold is 500" in _carry_out(_propose(place, new_episodes=500))["outcome"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Workspace, "held", lambda _: True)
        assert "a run that holds the workspace" in _carry_out(_propose(place))["outcome"]
    run = _propose(place)
    assert _carry_out(run) is None
    assert until(hook.find("Retrain t?", run.name))
    assert f"run {run.name!r} of this flow waits" in _carry_out(_propose(place))["outcome"]
    with get_client(sync_client=True) as client:
        for refused in ({}, {"approve": True}, {"approve": True, "decided_by": ""}):
            answer = client.resume_flow_run(run.id, run_input=refused)
            assert answer.status.value != "ACCEPT", refused
        client.resume_flow_run(run.id, run_input={"approve": True, "decided_by": "Ada"})
        run = client.read_flow_run(run.id)
    told = len(hook.told)
    assert "approved by Ada" in _carry_out(run)["outcome"]
    again = _propose(place)
    assert _carry_out(again) is None
    with get_client(sync_client=True) as client:
        client.resume_flow_run(again.id, run_input={"approve": True, "decided_by": "Grace"})
        assert "approved by Grace" in _carry_out(client.read_flow_run(again.id))["outcome"]
    (retraining,) = _runs("retrain")
    assert retraining.parameters["target"] == "t"
    assert until(hook.find("Retrain t?", again.name))
    assert not any(run.name in text for text in hook.told[told:])  # resumed, not announced again


def test_an_unanswered_proposal_expires_and_somebody_is_told(place: Place, hook: Hook) -> None:
    ensure_automations(hook.url)
    run = _propose(place)
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(run.id, Suspended(timeout_seconds=0, pause_key=pause_key("t")), force=True)
    assert until(hook.find(f"{NAME}: Failed", run.name, "paused and never resumed"))


def test_a_run_whose_process_is_gone_is_closed(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    gone, alive, young = (_propose(place, target=f"silent-{n}") for n in range(3))
    with get_client(sync_client=True) as client:

        def begin(run: FlowRun) -> None:
            client.set_flow_run_state(run.id, Running(), force=True)

        def told_of(run: FlowRun) -> bool:
            wanted = {"resource": {"id": [f"prefect.flow-run.{run.id}"]}, "event": {"name": [heartbeat]}}
            return bool(client.request("POST", "/events/filter", json={"filter": wanted}).json()["events"])

        heartbeat = "prefect.flow-run.heartbeat"
        begin(gone)
        begin(alive)
        begun = datetime.now(UTC)
        begin(young)
        sign = PrefectEvent(event=heartbeat, resource={"prefect.resource.id": f"prefect.flow-run.{alive.id}"})
        client.request("POST", "/events", json=[sign.model_dump(mode="json")])
        until(lambda: told_of(alive))
        monkeypatch.setattr("flows.server.flow_runs.longest_silence", lambda: datetime.now(UTC) - begun)
        assert gone.name in close_silent_runs()
        states = [client.read_flow_run(run.id).state_name for run in (gone, alive, young)]
        assert states == ["Crashed", "Running", "Running"]
        for run in (alive, young):
            client.set_flow_run_state(run.id, Completed(), force=True)
