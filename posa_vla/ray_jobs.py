"""Work as jobs of a Ray cluster: named by the hash of their inputs, so that whoever asks again finds the same one."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import ray
import requests
from ray.exceptions import AuthenticationError
from ray.job_submission import JobStatus, JobSubmissionClient

from posa_vla.console import log_to_stderr, say
from posa_vla.errors import BadInput, PosaError
from posa_vla.ray_cluster import RayCluster, ray_cluster
from posa_vla.schema import Closed, parse_json
from posa_vla.settings import Settings

# Seconds: between looks at a job, of one request, for which a cluster may be away, for a stopped job to end.
_INTERVAL, _TIMEOUT, _PATIENCE, _STOPPING = 1.0, 30.0, 180.0, 30.0
_ACTIVE = (JobStatus.PENDING, JobStatus.RUNNING)
# Lines of a failed job's log that its error message shows.
_LOG_LINES = 15
# Ray's whole answer while no node of it can take a job.
_NOT_READY = "No available agent to submit job, please try again later."


Spec = TypeVar("Spec", bound=Closed)


class _Refusal(RuntimeError):
    """The cluster refuses a request; Ray's own error says the status in words alone."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"status {status}: {text}")
        self.status, self.text = status, text


class _Client(JobSubmissionClient):
    """Ray's client, which alone would wait for ever on a head that has frozen."""

    def _raise_error(self, r: requests.Response) -> None:
        raise _Refusal(r.status_code, r.text)

    def _do_request(self, method: str, endpoint: str, **options: Any) -> Any:
        return super()._do_request(method, endpoint, **{"timeout": _TIMEOUT, **options})

    def ray_version(self) -> str:
        """Version of the cluster."""
        return str(self._do_request("GET", "/api/version").json()["ray_version"])


class Jobs:
    """Jobs of one cluster. A job outlives who submitted it; it does not outlive the cluster's head."""

    def __init__(self, cluster: RayCluster, *, patience: float = _PATIENCE) -> None:
        """Waits for the cluster to answer.

        Args:
            cluster: Where jobs go.
            patience: Seconds for which it may be away, now and later.

        Raises:
            BadInput: It refuses the token, or runs another version of Ray.
            PosaError: It does not answer.
        """
        self._cluster = cluster
        self._patience = patience
        self._away: float | None = None
        # Said here, not left to the environment, which Ray reads once, when it is imported.
        headers = {"Authorization": f"Bearer {cluster.token}"} if cluster.token else None
        client = None
        while client is None:
            client = self._ask(lambda: _Client(cluster.url, headers=headers))
        self._client = client
        version = self._client.ray_version()
        if version != ray.__version__:
            raise BadInput(
                f"the Ray cluster at {cluster.url} runs version {version}, this is {ray.__version__}: both must be "
                "the same, use one image for both"
            )

    def _ask(self, question: Callable[[], Any]) -> Any:
        """The answer, or None while the cluster is away; a request that it refuses is an error."""
        try:
            answer = question()
        except AuthenticationError:
            raise BadInput(
                f"the Ray cluster at {self._cluster.url} refuses the token: set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN "
                "to the cluster's own"
            ) from None
        except (ConnectionError, requests.RequestException) as error:
            if self._cluster.ended():
                raise PosaError(
                    "Ray on this machine has ended, killed perhaps or out of memory: `posa doctor` says how much is "
                    "free; the same command continues"
                ) from error
            now = time.monotonic()
            if self._away is None:
                self._away = now
            if now - self._away > self._patience:
                raise PosaError(
                    f"the Ray cluster at {self._cluster.url} (setting POSA_RAY_ADDRESS) has not answered for "
                    f"{self._patience:.0f} s: {error}"
                ) from error
            time.sleep(_INTERVAL)
            return None
        self._away = None
        return answer

    def _status(self, name: str) -> Any:
        """A job's status; `absent` where the cluster knows none of this name; None while the cluster is away."""

        def question() -> Any:
            try:
                return self._client.get_job_info(name).status
            except _Refusal as error:
                if error.status == 404:
                    return "absent"
                raise PosaError(f"the Ray cluster at {self._cluster.url} cannot tell of job {name}: {error}") from error

        return self._ask(question)

    def run(self, name: str, module: str, spec: Closed, watch: Callable[[], None]) -> None:
        """Has a job do some work, and returns when it is done.

        A job of this name that is pending or running is joined; one that ended is followed by another attempt, which
        the work makes cheap by going on where the last one stopped. Interrupted (Ctrl-C, a cancelled flow), this stops
        the job; killed, it leaves it running for the next call.

        Args:
            name: From the hash of the inputs.
            module: Run as a program with `spec` in JSON as its argument (see `job_main`).
            spec: What the job is handed.
            watch: Called about once a second meanwhile, and once at the end.

        Raises:
            BadInput: The job met bad input.
            PosaError: The job failed, or the cluster is gone.
        """
        attempt = self._join_or_submit(name, module, spec)
        status: Any = None
        try:
            while True:
                watch()
                status = self._status(attempt)
                if status == "absent":  # the head was restarted
                    attempt = self._join_or_submit(name, module, spec)
                elif status is not None and status not in _ACTIVE:
                    break
                time.sleep(_INTERVAL)
        except BaseException as error:
            if not isinstance(error, Exception):
                self._stop(attempt)
            raise
        watch()
        if status != JobStatus.SUCCEEDED:
            self._fail(attempt, status)

    def active(self) -> list[str]:
        """Names of jobs that are pending or running.

        Raises:
            PosaError: The cluster does not answer.
        """
        jobs = None
        while jobs is None:
            jobs = self._ask(self._client.list_jobs)
        return sorted(job.submission_id for job in jobs if job.submission_id and job.status in _ACTIVE)

    def _join_or_submit(self, name: str, module: str, spec: Closed) -> str:
        # A cluster that has just started answers, and cannot take a job yet.
        number, deadline = 1, time.monotonic() + self._patience
        while True:
            attempt = f"{name}-{number}"
            status = self._status(attempt)
            if status in _ACTIVE:
                return attempt
            if status == "absent":
                command = f"python -P -m {module} {shlex.quote(spec.model_dump_json())}"
                environment = {"env_vars": self._cluster.variables}

                def submit(attempt: str = attempt, command: str = command, environment: Any = environment) -> str:
                    try:
                        self._client.submit_job(entrypoint=command, submission_id=attempt, runtime_env=environment)
                    except _Refusal as error:
                        # Of what may pass, the cluster says in no other way than by this text.
                        if error.text == _NOT_READY and time.monotonic() < deadline:
                            time.sleep(_INTERVAL)
                            return ""
                        if self._status(attempt) == "absent":
                            raise PosaError(f"the Ray cluster refuses job {attempt}: {error}") from error
                        # Whoever asked at the same time has submitted it.
                    return attempt

                if self._ask(submit):
                    return attempt
            elif status is not None:
                number += 1

    def _stop(self, attempt: str) -> None:
        try:
            self._client.stop_job(attempt)
            deadline = time.monotonic() + _STOPPING
            while self._client.get_job_info(attempt).status in _ACTIVE and time.monotonic() < deadline:
                time.sleep(0.2)
        except (ConnectionError, requests.RequestException, RuntimeError) as error:
            say(f"job {attempt} could not be stopped ({error}): ray job stop {attempt}")

    def _fail(self, attempt: str, status: Any) -> None:
        try:
            info, log = self._client.get_job_info(attempt), self._client.get_job_logs(attempt)
        except (ConnectionError, requests.RequestException, RuntimeError):
            raise PosaError(f"job {attempt} ended as {status}, and its log cannot be read") from None
        errors = [line.partition("error: ")[2] for line in log.splitlines() if line.startswith("error: ")]
        if info.driver_exit_code == BadInput.exit_code and errors:
            raise BadInput(errors[-1])
        told = errors[-1] if errors else "\n".join(log.splitlines()[-_LOG_LINES:])
        raise PosaError(f"job {attempt} ended as {status}: {told or info.message}")


@contextmanager
def open_jobs(settings: Settings, *, patience: float = _PATIENCE, at_least: int = 1) -> Iterator[Jobs]:
    """Jobs of the cluster of `settings.ray_address`, or of one that is started here and ends with the block.

    Args:
        settings: Of the workspace.
        patience: Seconds for which a cluster may be away.
        at_least: Processors that one which is started here hands out at least.

    Raises:
        BadInput: The address is none of a Jobs API, the cluster refuses the token, or runs another version of Ray.
        PosaError: Ray does not start, or the cluster does not answer.
    """
    with ray_cluster(settings, at_least=at_least) as cluster:
        yield Jobs(cluster, patience=patience)


def job_main(schema: type[Spec], work: Callable[[Spec], None]) -> None:
    """Body of a job's program: does the work that the command line describes; an error is one line and an exit code.

    Args:
        schema: Of the JSON that is the program's one argument (see `Jobs.run`).
        work: Handed it.
    """
    log_to_stderr()
    try:
        work(parse_json(schema, sys.argv[1].encode(), "what the job was handed"))
    except PosaError as error:
        say(f"error: {error}")
        sys.exit(error.exit_code)
