"""`posa robot`: hand a robot its trust, let its agent take releases and run them, see what it holds."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from posa_vla.cli.options import AsJson
from posa_vla.seeds import ROBOT_SEEDS

if TYPE_CHECKING:
    from posa_vla.robot.control_loop import EpisodeReport
    from posa_vla.robot.report import Reporter
    from posa_vla.robot.session import Runner

app = typer.Typer(help="The robot's side: trust, releases, episodes.", no_args_is_help=True)

Home = Annotated[Path, typer.Option("--home", help="The robot's state folder.")]
Channel = Annotated[str, typer.Option("--channel", help="Release channel: a directory or s3://bucket/prefix.")]
Target = Annotated[str, typer.Option("--target", help="Deployment target whose releases it takes.")]
EmbodimentOption = Annotated[str, typer.Option("--embodiment", help="A shipped embodiment's name, or a file.")]

TrustFolder = Annotated[
    Path, typer.Option("--trust", help="Folder with root.json and trust.json, as `posa promote` writes it.")
]


@app.command()
def provision(home: Home, trust_folder: TrustFolder, as_json: AsJson = False) -> None:
    """Hand a robot the keys that it trusts, by a way that is not the channel: done once, before its first release."""
    from posa_vla.console import print_json, print_table
    from posa_vla.robot.provision import provision as hand_over
    from posa_vla.robot.provision import read_trust

    root, trust = read_trust(trust_folder)
    hand_over(home, root, trust)
    if as_json:
        print_json({"home": str(home.resolve()), "trust": trust.model_dump(mode="json")})
        return
    print_table(
        "posa robot provision",
        [
            ("home", str(home.resolve())),
            ("target", trust.target),
            ("embodiment", f"{trust.embodiment_id}, {trust.embodiment_digest[:12]}"),
            ("publishers", ", ".join(trust.publishers)),
            ("approvals", f"{trust.approvals} of {len(trust.approvers)} approvers"),
        ],
    )


@app.command()
def run(
    home: Home,
    channel: Channel,
    target: Target,
    embodiment: EmbodimentOption = "sim_arm6",
    driver: Annotated[
        str, typer.Option("--driver", help="Robot driver: simulated, dry-run, or a plugin's.")
    ] = "simulated",
    task: Annotated[str, typer.Option("--task", help="Task of the episodes.")] = "pick",
    episodes: Annotated[int, typer.Option("--episodes", min=0, help="Episodes after each update.")] = 5,
    objects: Annotated[int, typer.Option("--objects", min=1, help="Objects of a simulated scene.")] = 3,
    max_steps: Annotated[int, typer.Option("--max-steps", min=1, help="Control steps of an episode.")] = 60,
    execute: Annotated[int, typer.Option("--execute", min=1, help="Actions taken before it looks again.")] = 4,
    committed: Annotated[
        int, typer.Option("--committed", min=0, help="Actions that go on being executed while the policy thinks.")
    ] = 0,
    ensemble: Annotated[
        float | None,
        typer.Option("--ensemble", min=0, help="Look at every step, average the chunks: weights exp(-x i)."),
    ] = None,
    image_size: Annotated[int, typer.Option("--image-size", min=16, help="Side of the camera images, pixels.")] = 64,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Scene of the first episode.")] = ROBOT_SEEDS.start,
    once: Annotated[bool, typer.Option("--once", help="One update, one set of episodes; else until Ctrl-C.")] = False,
    retry: Annotated[bool, typer.Option("--retry", help="Try a release again that was given up as unhealthy.")] = False,
    interval: Annotated[float, typer.Option("--interval", min=0, help="Seconds between updates.")] = 30.0,
    socket: Annotated[
        Path | None, typer.Option("--socket", help="Take requests for episodes on this Unix socket; not with --once.")
    ] = None,
    reports: Annotated[
        str | None, typer.Option("--reports", help="Leave reports here: a directory or s3://bucket/prefix.")
    ] = None,
    name: Annotated[str, typer.Option("--name", help="The robot's name in its reports.")] = "robot",
    as_json: AsJson = False,
) -> None:
    """Take the channel's newest release if it verifies, and run episodes with what is installed.

    With --once, an update that was refused ends in exit code 1, after the last good release has run its episodes.
    """
    from posa_vla.console import progress, say
    from posa_vla.errors import BadInput
    from posa_vla.objects import open_objects
    from posa_vla.policy.execution import Execution
    from posa_vla.release.channel import ChannelClient
    from posa_vla.robot.agent import Agent
    from posa_vla.robot.provision import trust_of, tuf_state
    from posa_vla.robot.report import Reporter
    from posa_vla.robot.robot import RobotOptions, open_driver
    from posa_vla.robot.session import Runner

    way = Execution(execute, committed, ensemble)
    if once and socket is not None:
        raise BadInput("--socket is for a robot that goes on: leave --once or --socket out")
    root, trust = trust_of(home)
    if trust.target != target:
        raise BadInput(f"{home} was provisioned for target {trust.target!r}, got --target {target!r}")
    robot = open_driver(driver, RobotOptions(embodiment, task, image_size, objects, max_steps))
    if robot.embodiment.digest != trust.embodiment_digest:
        raise BadInput(
            f"{home} was provisioned for embodiment {trust.embodiment_id!r}, digest {trust.embodiment_digest[:12]}; "
            f"{embodiment!r} has digest {robot.embodiment.digest[:12]}: provision it again if the robot was changed"
        )
    agent = Agent(home, ChannelClient(channel, tuf_state(home), root), trust)
    with agent.slots.lock():
        if retry:
            agent.slots.forget_attempts()
        try:
            robot.connect()
            runner = Runner(agent, robot, way=way, max_steps=max_steps, seed=seed)
            place = None if reports is None else open_objects(reports)
            reporter = Reporter(runner.session, name, target, place, say)
            if not once:
                try:
                    _follow(runner, episodes, interval, socket, reporter)
                finally:
                    _print(runner, as_json)
            update = runner.update()
            if update.reason:
                say(f"update {update.status}: {update.reason}")
            with progress("episodes", episodes, unit="episode") as advance:
                runner.run(episodes, lambda episode: advance(note=_line(episode)))
            reporter.leave()
        finally:
            robot.disconnect()
    _print(runner, as_json)
    if update.status == "refused":
        raise typer.Exit(1)


def _follow(runner: Runner, episodes: int, interval: float, socket: Path | None, reporter: Reporter) -> None:
    from posa_vla.console import say
    from posa_vla.robot.session import follow
    from posa_vla.robot.station import Station

    def loop(wait: Callable[[float], None]) -> None:
        follow(runner, episodes, interval, lambda episode: say(_line(episode)), say, wait, reporter.leave)

    def state() -> dict[str, Any]:
        return reporter.report().model_dump(mode="json")

    def work(count: int, done: Callable[[EpisodeReport], None]) -> dict[str, Any]:
        first = len(runner.session.episodes)
        runner.run(count, done)
        reporter.leave()
        rows = [
            {"success": e.success, "steps": e.steps, "holds": sum(e.holds.values()), "clamped": e.clamped}
            for e in runner.session.episodes[first:]
        ]
        return {**state(), "rows": rows}

    if socket is None:
        loop(time.sleep)
        return
    station = Station(socket, _line, state)
    with station.open():
        loop(lambda seconds: station.serve(seconds, work))


def _line(report: EpisodeReport) -> str:
    outcome = {True: "success", False: "no success", None: "done"}[report.success]
    held = ", ".join(f"held {count} for {reason}" for reason, count in sorted(report.holds.items()))
    return f"{outcome} after {report.steps} steps" + (f", {held}" if held else "")


def _print(runner: Runner, as_json: bool) -> None:
    from posa_vla.console import print_json, print_table

    document = runner.session.to_json()
    if as_json:
        print_json(document)
        return
    release, latency = document["release"], document["latency_ms"]
    successes = "not known to the driver" if document["successes"] is None else str(document["successes"])
    print_table(
        "posa robot run",
        [
            ("release", f"{release['number']}, bundle {release['bundle_digest'][:12]}" if release else "none"),
            ("update", "; ".join(part for part in (document["update"], document["reason"]) if part)),
            ("episodes", f"{document['episodes']}, successes: {successes}"),
            ("holds, clamped", f"{document['holds']}, {document['clamped']}"),
            ("inference", f"{latency['p50']} ms, 99 %: {latency['p99']} ms" if latency["p50"] is not None else "none"),
        ],
    )


@app.command()
def status(home: Home, as_json: AsJson = False) -> None:
    """Show what a robot holds and runs, every byte verified; changes nothing."""
    from posa_vla.console import print_json, print_table
    from posa_vla.robot.provision import trust_of
    from posa_vla.robot.status import robot_status

    _, trust = trust_of(home)
    document = robot_status(home, trust)
    if as_json:
        print_json(document)
        return
    release = document["release"]
    rows = [
        ("target", document["target"]),
        ("release", f"{release['number']}, bundle {release['bundle_digest'][:12]}" if release else "none"),
    ]
    for slot, held in document["slots"].items():
        rows.append((f"slot {slot}", f"release {held['number']}: {held['damage'] or 'sound'}"))
    print_table("posa robot status", rows)
