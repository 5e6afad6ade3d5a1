"""A workspace for recordings of a robot: its declaration, a target, and parameters that fit."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

from posa_vla.console import progress
from posa_vla.dataset.split import FEW
from posa_vla.episodes.embodiment import load_embodiment
from posa_vla.episodes.foreign.bad_episode import BadEpisode
from posa_vla.episodes.foreign.dataset import open_source
from posa_vla.episodes.foreign.reader import SourceReader
from posa_vla.episodes.outside_files import MALFORMED
from posa_vla.episodes.store.episode_store import EpisodeStore
from posa_vla.errors import BadInput
from posa_vla.files import write_bytes, write_text
from posa_vla.params import Params
from posa_vla.params_file import assignment, overlaid, shipped_presets
from posa_vla.pipeline.announcements import Announce, silent
from posa_vla.pipeline.fitting import Choice, Seen, fitting, this_machine, why_preset
from posa_vla.pipeline.incoming import at_hand
from posa_vla.pipeline.ingestion import Dataset, Ingestion, ingest_dataset, open_reader
from posa_vla.pipeline.missing import Missing, missing_of
from posa_vla.schema import Closed, parse
from posa_vla.workspace import Workspace
from posa_vla.workspace_template import IGNORED, template_file
from posa_vla.yaml_file import read_yaml, yaml_text

# Target names that stand for something else.
_TAKEN = {"decisions", "default"}
# What a preset says of more than the simulator.
_FROM_PRESET = {"model", "train"}
# What stands first in params.yaml.
_FIRST = ("schema_version", "target", "targets")
# Longest task that is written down.
_TASK = 80


class Started(Closed):
    """The document of `posa init --dataset --json`.

    Attributes:
        folder: The workspace.
        params: Its parameter file.
        target: Name of the target.
        declaration: File that declares the robot.
        preset: Preset that the parameters come from; `why` it.
        choices: Parameters that were chosen, each with its reason.
        ingestion: What became of the episodes.
        samples_per_second: Of a training on this machine, measured; None where there is nothing to learn from.
        training: How long a training takes here, in words; empty likewise.
        missing: What is missing for what.
        next: Command.
    """

    folder: str
    params: str
    target: str
    declaration: str
    preset: str
    why: str
    choices: list[Choice]
    ingestion: Ingestion
    samples_per_second: float | None
    training: str
    missing: list[Missing]
    next: str


def start_with(workspace: Workspace, folder: Path, dataset: Dataset, announce: Announce = silent) -> Started:
    """Takes a dataset into a new workspace, and writes a target and parameters that fit it.

    `params.yaml` is written last: the same command goes on where a killed one stopped.

    Args:
        workspace: Of the folder.
        folder: New, or without params.yaml.
        dataset: The recordings; its declarations go into the folder.
        announce: Told of what people wait for.

    Raises:
        BadInput: It is no dataset, its features are not declared well enough, or no episode of it can be read.
            Nothing was begun then.
    """
    with at_hand(workspace, dataset.location) as place:
        reader, declaration = open_reader(open_source(place), dataset, EpisodeStore(workspace.store))
        seen = _look(reader)
        machine = this_machine()
        preset, choices = fitting(seen, machine)
        target = reader.embodiment.id + ("-robot" if reader.embodiment.id in _TAKEN else "")
        values = _values(target, declaration, folder, seen, preset, choices)
        params = parse(Params, values, "the parameters that fit")
        done = ingest_dataset(workspace, params, replace(dataset, location=str(place)), announce)
    write_bytes(folder / ".gitignore", IGNORED)
    write_text(folder / "params.yaml", _text(values, dataset.location, preset, why_preset(preset, machine), choices))
    rate, training = None, ""
    if done.folder is not None:
        from posa_vla.training.rate import samples_per_second

        rate = round(samples_per_second(Path(done.folder), params), 1)
        training = _training_words(params, rate, seen, machine.gpu)
    embodiment = load_embodiment(done.declaration)
    return Started(
        folder=str(folder.resolve()),
        params=str((folder / "params.yaml").resolve()),
        target=target,
        declaration=str(Path(done.declaration).resolve()),
        preset=preset,
        why=why_preset(preset, machine),
        choices=choices,
        ingestion=done,
        samples_per_second=rate,
        training=training,
        missing=missing_of(reader, embodiment, done, dataset, seen.episodes),
        next=f"cd {shlex.quote(str(folder))} && posa retrain",
    )


def _look(reader: SourceReader) -> Seen:
    """What the dataset shows; no video is decoded, and of many episodes only some are read."""
    places = reader.source.episodes()
    few = len(places) < FEW
    instructions, pictures = dict[str, None](), dict[str, tuple[int, int]]()
    lengths, why = {where.number: where.length for where in places}, ""
    listed = dict.fromkeys(where.instruction for where in places if where.instruction)
    wanted = places if few else places[: FEW // 4]
    with progress("look", len(wanted), unit="episode") as advance:
        for where in wanted:
            try:
                episode = reader.episode(where)
            except (BadEpisode, BadInput, *MALFORMED) as error:
                malformed = f"the table of episode {where.number} holds values that are no episode's"
                why = why or (str(error) if isinstance(error, BadInput) else malformed)
                lengths.pop(where.number)
            else:
                lengths[where.number] = len(episode)
                instructions[episode.instruction] = None
                for role, camera in episode.cameras.items():
                    pictures.setdefault(role, (camera.images.shape[1], camera.images.shape[2]))
            advance(1)
    if not pictures:
        raise BadInput(
            f"no episode of {reader.source.folder} can be read with its pictures"
            f"{f' ({why})' if why else ''}: fetch or mend the files and run again"
        )
    known = [length for length in lengths.values() if length]
    tasks = list(instructions if few else listed or instructions)
    return Seen(reader.source.fps, pictures, known, len(places), tasks)


def _values(
    target: str, declaration: Path, folder: Path, seen: Seen, preset: str, choices: list[Choice]
) -> dict[str, Any]:
    """All of `params.yaml` as it is written."""
    place = declaration.name if declaration.resolve().parent == folder.resolve() else str(declaration.resolve())
    tasks = seen.instructions
    chosen: dict[str, Any] = {
        "target": target,
        "targets": {
            target: {
                "embodiment": place,
                "task": tasks[0][:_TASK] if len(tasks) == 1 else f"{len(tasks)} tasks",
                "approvals": 1,
                "approvers": {},
                "record": 2,
                "data": {"collect": False},
                "evidence": ["offline", "robot"],
            }
        },
    }
    base = parse(Params, chosen, "the target that fits")
    overlay = {
        part: value for part, value in read_yaml(shipped_presets()[preset]).items() if part in ("model", "train")
    }
    settings = [f"{choice.key}={choice.value}" for choice in choices]
    for setting in (overlay, *(assignment(text) for text in settings)):
        base = overlaid(base, setting, "the parameters that fit")
        chosen = _merged(chosen, setting)
    return {"schema_version": 1, **chosen}


def _merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        merged[key] = _merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def _text(values: dict[str, Any], location: str, preset: str, why: str, choices: list[Choice]) -> str:
    """`params.yaml`: target and parameters with their reasons, and the rules of the validation from the template."""
    template = template_file("params.yaml").read_text(encoding="utf-8")
    rules = template[template.index("# The rules that") :]
    reasons = [f"preset {preset}: {why}", *(f"{choice.key} {choice.value}: {choice.reason}" for choice in choices)]
    named = yaml_text({name: values[name] for name in ("schema_version", "target", "targets")}, unicode=True)
    rest = yaml_text(
        {name: value for name, value in values.items() if name not in ("schema_version", "target", "targets")}
    )
    return (
        "# What is computed. Defaults and the meaning of each key: posa_vla/params.py. Presets: posa_vla/presets/.\n"
        "# A target that is a robot: nothing is simulated, and nothing is released without trials on the robot.\n"
        f"{named}# Chosen by `posa init` for {' '.join(location.split())}:\n"
        + "".join(f"#   {reason}\n" for reason in reasons)
        + f"{rest}{rules}"
    )


def _training_words(params: Params, rate: float, seen: Seen, gpu: bool) -> str:
    samples = params.train.steps * params.train.batch
    minutes = max(round(samples / rate / 60), 1)
    times = f", {samples / sum(seen.lengths):.2g} times through the frames" if seen.lengths else ""
    where = "on this GPU" if gpu else "here"
    cameras = "one camera" if len(seen.pictures) == 1 else f"{len(seen.pictures)} cameras"
    return (
        f"{rate:.0f} samples/s {where} at {params.prepare.image_size} px with {cameras}: "
        f"{params.train.steps} steps of {params.train.batch} samples take about {minutes} min{times}"
    )
