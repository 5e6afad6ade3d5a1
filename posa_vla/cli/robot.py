"""`posa robot`: write a robot's file, hand it its trust, let it take releases and run them, see what it holds."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from posa_vla.cli.options import AsJson
from posa_vla.cli.robot_flags import settings_flags
from posa_vla.seeds import ROBOT_SEEDS

if TYPE_CHECKING:
    from posa_vla.robot.settings import Given
    from posa_vla.robot.station.session import Session

app = typer.Typer(help="The robot's side: its settings, trust, releases, episodes.", no_args_is_help=True)

Config = Annotated[
    Path | None,
    typer.Option("--config", help="The robot's file; by default robot.yaml in --home, without --home in this folder."),
]
Home = Annotated[str | None, typer.Option("--home", help="The robot's state folder, where no file says it.")]

TrustFolder = Annotated[
    Path, typer.Option("--trust", help="Folder with root.json and trust.json, as `posa promote` writes it.")
]


def _home(config: Path | None, home: str | None) -> tuple[Path, Given | None]:
    """The state folder that a command is about, and the robot's settings where it has a file."""
    from posa_vla.errors import BadInput
    from posa_vla.robot.settings import find_file, read_settings

    if find_file(config, home) is not None:
        given = read_settings(config, {} if home is None else {"home": home})
        return Path(given.settings.home), given
    if home is None:
        raise BadInput(
            "this folder has no robot.yaml: name the robot's file by --config, or its state folder by --home, or write "
            "a file by `posa robot init`"
        )
    return Path(home), None


@app.command()
@settings_flags
def init(
    flags: dict[str, Any],
    out: Annotated[
        Path | None,
        typer.Option("--out", help="The file; by default robot.yaml in --home, without --home in this folder."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write a robot's file, robot.yaml: every setting with the reason for it. A file that exists is not changed.

    --target and --channel are needed. Without --home, the state folder is `robot` beside the file.
    """
    from posa_vla.console import print_json, say
    from posa_vla.errors import BadInput
    from posa_vla.robot.settings import Given, new_settings, seen_from, write_file
    from posa_vla.robot.station.service import spelled_out

    missing = [f"--{name}" for name in ("target", "channel") if not flags.get(name)]
    if missing:
        raise BadInput(f"{' and '.join(missing)} missing: a robot takes the releases of a target from a channel")
    path, settings = new_settings(out, flags)
    settings = seen_from(path.parent, spelled_out(Given(settings, None, {})))
    write_file(path, settings)
    following = f"posa robot provision --config {shlex.quote(str(path))} --trust DIR"
    if as_json:
        print_json({"config": str(path), "settings": settings.model_dump(mode="json"), "next": following})
        return
    say(f"{path} written. Next, with the folder `trust` that the publisher hands over as DIR: {following}")


@app.command()
def provision(trust_folder: TrustFolder, home: Home = None, config: Config = None, as_json: AsJson = False) -> None:
    """Hand a robot the keys that it trusts, by a way that is not the channel: done once, before its first release."""
    from posa_vla.console import print_json, print_table, say
    from posa_vla.release.trust import read_trust
    from posa_vla.robot.agent.provision import provision as hand_over
    from posa_vla.robot.station.service import require_same_robot

    root, trust = read_trust(trust_folder)
    folder, given = _home(config, home)
    if given is not None:
        require_same_robot(given, trust)
    hand_over(folder, root, trust)
    if as_json:
        print_json({"home": str(folder.resolve()), "trust": trust.model_dump(mode="json")})
        return
    print_table(
        "posa robot provision",
        [
            ("home", str(folder.resolve())),
            ("target", trust.target),
            ("embodiment", f"{trust.embodiment_id}, {trust.embodiment_digest[:12]}"),
            ("publishers", ", ".join(trust.publishers)),
            ("approvals", f"{trust.approvals} of {len(trust.approvers)} approvers"),
        ],
    )
    if given is not None:
        say(f"Next: posa robot run --config {shlex.quote(str(given.file))}")


@app.command()
@settings_flags
def run(
    flags: dict[str, Any],
    config: Config = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Scene of the first episode.")] = ROBOT_SEEDS.start,
    once: Annotated[bool, typer.Option("--once", help="One update, one set of episodes; else until Ctrl-C.")] = False,
    retry: Annotated[bool, typer.Option("--retry", help="Try a release again that was given up as unhealthy.")] = False,
    as_json: AsJson = False,
) -> None:
    """Take the channel's newest release if it verifies, and run episodes with what is installed.

    Settings come from the robot's file (`posa robot init` writes it) and from flags, which override it. Without
    --config the file is robot.yaml in --home, without --home in this folder; without a file --home, --channel and
    --target are needed.

    A release says how it is run (executed actions, committed ones, ensembling, steps): a setting that says otherwise is
    refused, but for a lower step limit. A simulated camera renders what the release was judged on, whatever the
    settings say; a camera that shows less is refused unless --allow-upscale is given. A release of record version 1
    says nothing of this: it runs as its bundle says, or, where that says nothing either, with these settings, by
    default 4, 0, none, 60 and 64. With --once, an update that was refused ends in exit code 1, after the last good
    release has run its episodes, and a socket that the file names is not opened.
    """
    from posa_vla.console import progress, say
    from posa_vla.errors import BadInput
    from posa_vla.robot.settings import read_settings
    from posa_vla.robot.station.service import episode_words, open_service

    given = read_settings(config, flags)
    if given.file is not None and config is None:
        say(f"settings: {given.file}")
    if once and "socket" in flags:
        raise BadInput("--socket is for a robot that goes on: leave --once or --socket out")
    with open_service(given, seed=seed, retry=retry, say=say) as service:
        if not once:
            try:
                service.follow()
            finally:
                _print(service.session, as_json)
        with progress("episodes", given.settings.episodes, unit="episode") as advance:
            update = service.once(lambda episode: advance(note=episode_words(episode)))
    _print(service.session, as_json)
    if update.status == "refused":
        raise typer.Exit(1)


def _print(session: Session, as_json: bool) -> None:
    from posa_vla.console import print_json, print_table

    document = session.to_json()
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
def status(home: Home = None, config: Config = None, as_json: AsJson = False) -> None:
    """Show what a robot holds and runs, every byte verified; changes nothing.

    Where the robot has a file, it is held against the release: what it lowers, and whether the robot may run at all.
    """
    from posa_vla.console import print_json, print_table
    from posa_vla.errors import BadInput
    from posa_vla.robot.agent.provision import trust_of
    from posa_vla.robot.agent.status import robot_status
    from posa_vla.robot.station.service import require_same_robot

    folder, given = _home(config, home)
    _, trust = trust_of(folder)
    if given is None:
        document = robot_status(folder, trust)
    else:
        try:
            require_same_robot(given, trust)
            contradiction = None
        except BadInput as error:
            contradiction = str(error)
        document = robot_status(folder, trust, given.settings, given.said_in, contradiction)
    if as_json:
        print_json(document)
        return
    release = document["release"]
    rows = [
        ("target", document["target"]),
        ("release", f"{release['number']}, bundle {release['bundle_digest'][:12]}" if release else "none"),
    ]
    if release:
        words = "; ".join(filter(None, [document["runs_with"], *document["lowered"]]))
        rows.append(("runs with", words or f"nothing: {document['contradiction']}"))
        rows.append(("sequence", "none" if document["sequence"] is None else str(document["sequence"])))
    for slot, held in document["slots"].items():
        rows.append((f"slot {slot}", f"release {held['number']}: {held['damage'] or 'sound'}"))
    print_table("posa robot status", rows)
