"""What a calibration is worth: success on the test bench with true, found, clicked and no cameras.

    python benchmarks/success_by_calibration.py [data|run|report] [--work DIR] [--data DIR] [--out DIR]
        [--calibrations NAME ...] [--seeds N ...] [--device auto|cpu] [--threads N]
        [--actions absolute|relative] [--quick] [--json]

The test bench's expert takes a thing and puts it into a bowl. It is recorded once, with two cameras of 320x240, joints
and video alone, and the recordings are ingested four times:

- `true`: with the simulator's cameras, the one on the hand too;
- `automatic`: with what `posa data calibrate` finds, which leaves the camera on the hand out;
- `clicked`: with ten clicks a camera, 3 px of noise, one of them anywhere; on the hand one more, on the tip;
- `none`: without, where `model.gate: auto` leaves the anchors out.

The four differ in nothing else. Pictures are fitted into 64 px. Three trainings each, and 100 scenes, the same for all.

Stages: `data` needs the whole installation, and writes a folder of less than 40 MB (--data, by default in --work).
`run` trains and evaluates in this process, with neither Ray nor MLflow, on a GPU if there is one; several processes and
machines may share the trainings. It leaves rows in --out, and goes on where it was killed. `report` makes table and
plot of the rows. Without a stage, all of them. `--quick` shows that it works, with policies that have learnt nothing.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calibrated_data import CALIBRATIONS, Place, make_data, unpack
from success_report import CONDITION, write_report

from posa_vla.console import print_json, progress, say
from posa_vla.errors import PosaError
from posa_vla.params import Params
from posa_vla.schema import parse
from posa_vla.seeds import scene_seeds

if TYPE_CHECKING:
    from posa_vla.evaluation.ablation.plan import Cell
    from posa_vla.evaluation.ablation.rows import Origin, TrainingRows

STAGES = ("data", "run", "report")
SEEDS = (0, 1, 2)
STEPS = 1000
SCENES = "success by calibration"
RESULTS = Path(__file__).parents[1] / "docs" / "results" / "calibration"


def bench_params(quick: bool, seed: int = 0, threads: int = 2, steps: int = STEPS, actions: str = "relative") -> Params:
    """Parameters of everything: the defaults but for what the test bench needs."""
    value: dict[str, Any] = {
        "target": "bench",
        "targets": {"bench": {"embodiment": "so101_bench", "task": "pick_place"}},
        "prepare": {"actions": actions},
        "collect": {"episodes": 50 if quick else 400, "image_size": 320, "objects": 1},
        "train": {
            "steps": 20 if quick else steps,
            "anchor_only_steps": 5 if quick else 150,
            "seed": seed,
            "workers": 1,
            "threads": threads,
        },
        "evaluate": {
            "episodes": 4 if quick else 100,
            "objects": 1,
            "max_steps": 80,
            "start_noise": 0,
            "videos": 0,
        },
    }
    return parse(Params, value, "success_by_calibration")


def cell_of(name: str, seed: int, params: Params) -> Cell:
    """A training as the rows name it."""
    from posa_vla.evaluation.ablation.plan import Cell

    return Cell(name, seed, params.collect.episodes)


def run(
    data: Path, work: Path, out: Path, names: Sequence[str], seeds: Sequence[int], made: Callable[[int], Params]
) -> None:
    """Trains and evaluates what has no rows yet.

    Args:
        data: Folder of `make_data`.
        work: Of trainings and evaluations that are not finished.
        out: Of the rows.
        names: Calibrations.
        seeds: Of the trainings.
        made: Parameters of a training by its seed.
    """
    from posa_vla.evaluation.ablation.rows import write_rows

    cells = [(name, seed) for seed in seeds for name in names]
    with progress("trainings", len(cells), unit="training") as advance:
        for name, seed in cells:
            params = made(seed)
            origin = _origin(data, name, params)
            if not _is_there(out, cell_of(name, seed, params), origin):
                write_rows(out, _train_and_evaluate(data, work, name, params, origin))
            advance(1, f"{name}, seed {seed}")


def _origin(data: Path, name: str, params: Params) -> Origin:
    """What rows follow from: the prepared data stand in the place of the plan."""
    from posa_vla.code_digest import code_digest
    from posa_vla.evaluation.ablation.rows import Origin
    from posa_vla.files import sha256_file, sha256_json, sha256_tree

    shared = {file.name: sha256_file(file) for file in sorted(data.glob("*.xz"))}
    code = {"training": code_digest("posa_vla.training.loop"), "evaluation": code_digest("posa_vla.evaluation.local")}
    decides = params.model_dump(mode="json", include={"targets", "collect", "prepare", "model", "train", "evaluate"})
    for machine in ("workers", "threads"):
        decides["train"].pop(machine)
    return Origin(plan=sha256_json([shared, sha256_tree(data / name)]), params=sha256_json(decides), code=code)


def _is_there(out: Path, cell: Cell, origin: Origin) -> bool:
    from posa_vla.errors import BadInput
    from posa_vla.evaluation.ablation.rows import TrainingRows, rows_path
    from posa_vla.files import read_json

    path = rows_path(out, cell)
    if not path.exists():
        return False
    rows = parse(TrainingRows, read_json(path), str(path))
    if rows.origin != origin:
        raise BadInput(
            f"{path} was made of other data, parameters or code, at commit {rows.commit[:12] or 'unknown'}: "
            "give --out another folder, or delete it"
        )
    return True


def _train_and_evaluate(data: Path, work: Path, name: str, params: Params, origin: Origin) -> TrainingRows:
    from posa_vla.evaluation.ablation.rows import Columns, TrainingRows
    from posa_vla.evaluation.local import evaluate
    from posa_vla.evidence.suite import Suite
    from posa_vla.files import sha256_json, sha256_tree
    from posa_vla.model.posa_policy import load_policy
    from posa_vla.release.code_state import code_state
    from posa_vla.settings import Settings
    from posa_vla.training.loop import train

    cell = cell_of(name, params.train.seed, params)
    place = work / "trainings" / f"{name}-{cell.seed}-{sha256_json(origin.model_dump(mode='json'))[:12]}"
    prepared = unpack(data, name, work / "prepared" / f"{name}-{origin.plan[:12]}")
    started = time.perf_counter()
    folder = train(prepared, params, place)
    seconds = time.perf_counter() - started
    say(f"{name}, seed {cell.seed}: {params.train.steps} steps in {seconds:.0f} s")
    policy = load_policy(folder, sha256_tree(folder), threads=params.train.processors)
    suite = Suite.of(params, scene_seeds(SCENES, params.evaluate.episodes))
    evidence = evaluate(policy, suite, place / "evaluation")
    return TrainingRows(
        variant=name,
        demonstrations=cell.demonstrations,
        seed=cell.seed,
        origin=origin,
        commit=code_state(Settings()).commit or "",
        seconds=round(seconds, 1),
        machine=evidence.hardware,
        versions=evidence.versions,
        conditions={CONDITION: Columns.of(evidence, suite.seeds)},
    )


def main() -> None:
    """Runs the stages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", nargs="?", choices=STAGES, help="all by default")
    parser.add_argument("--work", type=Path, default=Path(".posa") / "calibration", help="what is made on the way")
    parser.add_argument("--data", type=Path, help="prepared data that can be carried; WORK/data by default")
    parser.add_argument("--out", type=Path, default=RESULTS, help="results; docs/results/calibration by default")
    parser.add_argument("--calibrations", nargs="+", choices=CALIBRATIONS, default=list(CALIBRATIONS))
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS), help="of the trainings")
    parser.add_argument("--device", choices=["auto", "cpu"], default="auto", help="auto: a GPU if there is one")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads of a training")
    parser.add_argument("--steps", type=int, default=STEPS, help="of a training")
    parser.add_argument("--actions", choices=["absolute", "relative"], default="relative", help="prepare.actions")
    parser.add_argument("--quick", action="store_true", help="policies that have learnt nothing")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    arguments = parser.parse_args()
    if arguments.quick and arguments.out == RESULTS:
        arguments.out = arguments.work / "quick" / "results"
    work: Path = arguments.work / "quick" if arguments.quick else arguments.work
    data: Path = arguments.data or work / "data"
    if arguments.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # before torch looks for one
    stages = [arguments.stage] if arguments.stage else STAGES
    seeds = arguments.seeds[:1] if arguments.quick else arguments.seeds

    def made(seed: int) -> Params:
        return bench_params(arguments.quick, seed, arguments.threads, arguments.steps, arguments.actions)

    try:
        if "data" in stages:
            make_data(Place(work.resolve()), bench_params(arguments.quick), arguments.calibrations, data)
        if "run" in stages:
            run(data, work, arguments.out, arguments.calibrations, seeds, made)
        if "report" in stages:
            summary = write_report(data, arguments.out, made(seeds[0]))
            if arguments.json:
                print_json(summary)
            else:
                print((arguments.out / "table.md").read_text(encoding="utf-8"))
    except PosaError as error:
        say(f"error: {error}")
        raise SystemExit(error.exit_code) from None


if __name__ == "__main__":
    main()
