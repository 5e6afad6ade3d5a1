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
    from posa_vla.robot.control.loop import EpisodeReport
    from posa_vla.robot.station.report import Reporter
    from posa_vla.robot.station.session import Runner

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
    from posa_vla.release.trust import read_trust
    from posa_vla.robot.agent.provision import provision as hand_over

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
    max_steps: Annotated[
        int | None, typer.Option("--max-steps", min=1, help="Control steps of an episode: the release's, or fewer.")
    ] = None,
    execute: Annotated[
        int | None, typer.Option("--execute", min=1, help="Actions taken before it looks again; see below.")
    ] = None,
    committed: Annotated[
        int | None,
        typer.Option("--committed", min=0, help="Actions that go on while the policy thinks; see below."),
    ] = None,
    ensemble: Annotated[
        float | None,
        typer.Option("--ensemble", min=0, help="Look at every step, average the chunks: weights exp(-x i); see below."),
    ] = None,
    image_size: Annotated[
        int | None, typer.Option("--image-size", min=16, help="Side of the camera images, pixels; see below.")
    ] = None,
    speed_limit: Annotated[
        float, typer.Option("--speed-limit", min=0, max=1, help="Largest share of the embodiment's limits of motion.")
    ] = 1.0,
    allow_upscale: Annotated[
        bool, typer.Option("--allow-upscale", help="Run although a camera shows less than the release was judged on.")
    ] = False,
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

    A release says how it is run (executed actions, committed ones, ensembling, steps): a flag that says otherwise is
    refused, but for a lower --max-steps. A simulated camera renders what the release was judged on, whatever
    --image-size says; a camera that shows less is refused unless --allow-upscale is given. A release of record version
    1 says nothing of this; it runs with these flags, by default 4, 0, none, 60 and 64. With --once, an update that was
    refused ends in exit code 1, after the last good release has run its episodes.
    """
    from posa_vla.console import progress, say
    from posa_vla.errors import BadInput
    from posa_vla.objects.open import open_objects
    from posa_vla.release.channel import ChannelClient
    from posa_vla.robot.agent.agent import Agent
    from posa_vla.robot.agent.provision import trust_of, tuf_state
    from posa_vla.robot.agent.terms import RunSettings, Terms
    from posa_vla.robot.control.robot import Robot, RobotOptions, open_driver
    from posa_vla.robot.control.safety import speed_limited
    from posa_vla.robot.station.report import Reporter
    from posa_vla.robot.station.session import Runner
    from posa_vla.schema import parse

    settings = parse(
        RunSettings,
        {
            "execute": execute,
            "committed": committed,
            "ensemble": ensemble,
            "max_steps": max_steps,
            "image_size": image_size,
            "speed_limit": speed_limit,
            "allow_upscale": allow_upscale,
        },
        "flags",
    )
    if once and socket is not None:
        raise BadInput("--socket is for a robot that goes on: leave --once or --socket out")
    root, trust = trust_of(home)
    if trust.target != target:
        raise BadInput(f"{home} was provisioned for target {trust.target!r}, got --target {target!r}")

    def open_robot(terms: Terms) -> Robot:
        return open_driver(driver, RobotOptions(embodiment, task, terms.image_size, objects, terms.execution.max_steps))

    robot = open_driver(driver, RobotOptions(embodiment, task, image_size or 64, objects))  # not connected
    if robot.embodiment.digest != trust.embodiment_digest:
        raise BadInput(
            f"{home} was provisioned for embodiment {trust.embodiment_id!r}, digest {trust.embodiment_digest[:12]}; "
            f"{embodiment!r} has digest {robot.embodiment.digest[:12]}: provision it again if the robot was changed"
        )
    speed_limited(robot.embodiment, settings.speed_limit)
    agent = Agent(home, ChannelClient(channel, tuf_state(home), root), trust)
    with agent.slots.lock():
        if retry:
            agent.slots.forget_attempts()
        runner = Runner(agent, open_robot, settings, seed=seed, say=say)
        try:
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
            runner.close()
    _print(runner, as_json)
    if update.status == "refused":
        raise typer.Exit(1)


def _follow(runner: Runner, episodes: int, interval: float, socket: Path | None, reporter: Reporter) -> None:
    from posa_vla.console import say
    from posa_vla.robot.station.local_socket import Station
    from posa_vla.robot.station.session import follow

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
            | {"upscaled": {role: list(size) for role, size in e.upscaled.items()}}
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
    small = [f"{role} blown up from {width} x {height}" for role, (height, width) in sorted(report.upscaled.items())]
    return ", ".join([f"{outcome} after {report.steps} steps", *([held] if held else []), *small])


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
            ("runs with", _runs_with(document["terms"])),
            ("update", "; ".join(part for part in (document["update"], document["reason"]) if part)),
            ("episodes", f"{document['episodes']}, successes: {successes}"),
            ("holds, clamped", f"{document['holds']}, {document['clamped']}"),
            *([("pictures blown up", ", ".join(document["upscaled"]))] if document["upscaled"] else []),
            ("inference", f"{latency['p50']} ms, 99 %: {latency['p99']} ms" if latency["p50"] is not None else "none"),
        ],
    )


def _runs_with(terms: dict[str, Any] | None) -> str:
    from posa_vla.robot.agent.terms import NOT_FIXED, Terms, execution_words

    if terms is None:
        return "nothing"
    known = Terms.model_validate(terms)
    words = execution_words(known.execution, known.image_size)
    return "; ".join([words, *([] if known.fixed else [NOT_FIXED]), *known.lowered])


@app.command()
def status(home: Home, as_json: AsJson = False) -> None:
    """Show what a robot holds and runs, every byte verified; changes nothing."""
    from posa_vla.console import print_json, print_table
    from posa_vla.robot.agent.provision import trust_of
    from posa_vla.robot.agent.status import robot_status

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
    if release:
        rows.append(("runs with", document["runs_with"]))
        rows.append(("sequence", "none" if document["sequence"] is None else str(document["sequence"])))
    for slot, held in document["slots"].items():
        rows.append((f"slot {slot}", f"release {held['number']}: {held['damage'] or 'sound'}"))
    print_table("posa robot status", rows)
