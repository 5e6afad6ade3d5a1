"""Let the simulated robot take a release: provisioned once, then its agent as a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from posa_vla.code_digest import code_digest
from posa_vla.episodes.embodiment import shipped_embodiments
from posa_vla.errors import BadInput, PosaError
from posa_vla.json_reader import LARGEST_RECORD, decode_json
from posa_vla.params import Params
from posa_vla.pipeline.context import StepContext
from posa_vla.pipeline.records import Released, RobotReport, RobotRun
from posa_vla.processes import dies_with_parent
from posa_vla.robot.agent.slots import Slots
from posa_vla.robot.settings import FILE, RobotSettings, write_file
from posa_vla.schema import parse
from posa_vla.shell import environment
from posa_vla.workspace import Workspace


def robot_home(workspace: Workspace, target: str) -> Path:
    """State folder of the target's simulated robot."""
    return workspace.robots / target


def robot_state(workspace: Workspace, target: str) -> RobotReport:
    """What the simulated robot runs without having been asked to take anything."""
    running = Slots(robot_home(workspace, target)).running
    return RobotReport(release=None if running is None else running.release, episodes=0, successes=0)


def simulated_robot(workspace: Workspace, params: Params, *, fixed: bool) -> RobotSettings:
    """Settings of the target's simulated robot, as the file in its home says them.

    Args:
        workspace: Whose channel it takes releases from; where that lies in the workspace, it is named so that a move of
            the workspace changes nothing.
        params: Parameters of the retraining.
        fixed: Whether the release says how it is run; else the robot is told what the evaluation ran with.
    """
    target, evaluate, channel, embodiment = params.chosen, params.evaluate, workspace.channel, params.chosen.embodiment
    if "://" not in channel:
        place = Path(os.path.abspath(os.path.expanduser(channel)))
        inside = place.is_relative_to(workspace.home)
        channel = os.path.relpath(place, robot_home(workspace, params.target)) if inside else str(place)
    if embodiment not in shipped_embodiments():
        embodiment = os.path.abspath(embodiment)
    settings = RobotSettings(
        home=".",
        channel=channel,
        target=params.target,
        embodiment=embodiment,
        driver="simulated",
        options={"task": target.task, "objects": evaluate.objects},
        episodes=params.robot.episodes,
    )
    if fixed:
        return settings
    execution = evaluate.model_dump(include={"execute", "committed", "ensemble", "max_steps"})
    return parse(
        RobotSettings, {**settings.model_dump(), **execution, "image_size": params.collect.image_size}, "robot"
    )


def _posa(workspace: Workspace, arguments: list[str]) -> bytes:
    """Runs a `posa` command as a process of its own, as a robot would; returns its JSON document as text.

    Raises:
        PosaError: It failed; its own message has gone to standard error.
    """
    command = [sys.executable, "-P", "-m", "posa_vla.cli.start", *arguments, "--json"]
    variables = {**environment(workspace.settings), "POSA_HOME": str(workspace.home)}
    done = subprocess.run(command, stdout=subprocess.PIPE, env=variables, preexec_fn=dies_with_parent(signal.SIGTERM))
    if done.returncode != 0:
        raise PosaError(f"`posa {' '.join(arguments[:2])}` exited {done.returncode}: its message is above")
    return done.stdout


def reported(document: bytes) -> RobotReport:
    """What of the document of `posa robot run --json` the loop goes on with.

    Raises:
        PosaError: The robot runs no release, or the document says something else.
    """
    try:
        said = decode_json(document, "its document", limit=LARGEST_RECORD)
        return RobotReport(release=said["release"]["number"], episodes=said["episodes"], successes=said["successes"])
    except (BadInput, ValueError, LookupError, TypeError) as error:  # pydantic's errors are ValueErrors
        raise PosaError(
            f"`posa robot run` reports no release that it ran ({error}): {document.decode()[:400]}"
        ) from None


def run_on_robot(context: StepContext, released: Released) -> RobotRun:
    """The robot's agent verifies the release, installs it, and runs episodes from the installed bundle.

    Raises:
        PosaError: Nothing was released, or a command of the robot failed.
    """
    workspace, params = context.workspace, context.params
    home = robot_home(workspace, params.target)

    def work(key: str) -> RobotRun:
        if released.trust is None:
            raise PosaError(f"nothing was released for robots to take: {released.pending}")
        settings = simulated_robot(workspace, params, fixed=released.record_version != 1)
        write_file(home / FILE, settings, "posa retrain writes it anew for each release, and changes in it are lost.")
        robot = ["--config", str(home / FILE)]
        _posa(workspace, ["robot", "provision", *robot, "--trust", str(workspace.home / released.trust)])
        return RobotRun(released=released, report=reported(_posa(workspace, ["robot", "run", *robot, "--once"])))

    inputs = {
        "record": released.record,
        "home": workspace.named(str(home)),
        "channel": workspace.named(workspace.channel),
        "robot": params.robot.model_dump(mode="json"),
        "code": code_digest("posa_vla.robot"),
    }

    def sound(run: RobotRun) -> bool:
        running = Slots(home).running
        return running is not None and running.record_digest == released.record

    result = context.ledger.step("robot", inputs, RobotRun, work, sound=sound, before={"released": released})
    return context.keep(result)
