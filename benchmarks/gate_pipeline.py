"""Targets over many nights through the pipeline's own gate: `decide_over_life`, its account, champion and reference.

    python benchmarks/gate_pipeline.py [--quick] [--json] [--out DIR]

The other benchmark (gate_error.py) computes e-values by tables, ten thousand lives a row. This one is slower and takes
the code that `posa retrain` runs, rollouts as records and all. A candidate that ends undecided goes on the next
night with twice the scenes, half of the time; each night's verdict is looked for after 25, 50 and 100 scenes. Rows for
a gate that asks for `superior` and for one that takes refreshes (margin 0.1): the share of promotions that were false,
on average over the targets; success that is lost from the first champion to the last; and the share of targets whose
champion ends more than the margin below the best reference that it had.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from posa_vla.console import print_json, print_table, progress
from posa_vla.evidence.account import Account
from posa_vla.evidence.record import EpisodeRow, Evidence
from posa_vla.evidence.reference import Standing
from posa_vla.files import write_json
from posa_vla.params import GateParams
from posa_vla.promotion.lifetime_gate import Place, asked_of, decide_over_life, refreshes
from posa_vla.schema import parse

LIVES, QUICK_LIVES = 60, 4
NIGHTS, SCENES = 15, 100
MARGIN = 0.1
GATES: dict[str, list[dict[str, Any]]] = {
    "superior": [{"kind": "floor", "threshold": 0.25}, {"kind": "superior"}],
    "refresh, margin 0.1": [{"kind": "floor", "threshold": 0.25}, {"kind": "non-inferior", "margin": MARGIN}],
}
# Success of a night's candidate, from random numbers and the champion's.
STREAMS: dict[str, Callable[[np.random.Generator, float], float]] = {
    "equal to the champion": lambda rng, champion: champion,
    "worse by the margin": lambda rng, champion: champion - MARGIN,
    "one in ten 15 points better, else 5 worse": lambda rng, champion: (
        champion + (0.15 if rng.random() < 0.1 else -0.05)
    ),
}
START = 0.8


def rolled_out(name: str, solved: np.ndarray[Any, Any]) -> Evidence:
    """A policy's rollouts as the pipeline keeps them."""
    rows = [
        EpisodeRow.model_construct(scene_seed=n, success=bool(s), steps=9, path_length=0.3, return_code="ok")
        for n, s in enumerate(solved)
    ]
    return Evidence.model_construct(
        policy_digest=name, suite={"task": "pick"}, planned=len(rows), rows=rows, hardware="none", versions={}
    )


def one_life(
    gate: GateParams, candidates: Callable[[np.random.Generator, float], float], seed: int
) -> dict[str, float]:
    """One target from its first champion on: promotions, false ones, success of champion and reference at the end."""
    rng = np.random.default_rng([29, seed])
    rates = {"0": START}
    standing, account = Standing("0", "0"), Account()
    promoted = false = 0
    best = START
    waiting: tuple[str, int, int] | None = None
    for night in range(1, NIGHTS + 1):
        champion, reference = str(standing.champion), str(standing.reference)
        if waiting is None:
            name, scenes, seen, number = str(night), SCENES, 0, account.next_number
            rates[name] = min(max(candidates(rng, rates[champion]), 0.0), 1.0)
        else:
            (name, seen, number), scenes = waiting, 2 * waiting[1]
        uniform = np.random.default_rng([31, seed, int(name), number]).random((4 * SCENES, 3))
        for count in (n for n in (25, 50, 100, 200, 400) if seen < n <= scenes):
            solved = {who: uniform[:count, side] < rates[who] for side, who in enumerate((name, champion, reference))}
            ours, theirs, best_of = (rolled_out(who, solved[who]) for who in (name, champion, reference))
            third = best_of if reference != champion else None
            place = Place(number, seen=seen)
            decision = decide_over_life("t", gate, ours, theirs, account, place, reference=third, standing=standing)
            ahead = solved[name].mean() - solved[reference].mean() > (MARGIN if refreshes(gate) else 0)
            lifts = ahead and not decision.lifts_reference
            if decision.verdict == "reject" or (decision.verdict == "promote" and not lifts):
                break
        assert decision.tried is not None
        account = account.after(decision.tried)
        waiting = None
        if decision.verdict == "promote":
            edge = rates[champion] if not refreshes(gate) else max(rates[champion], rates[reference]) - MARGIN
            promoted, false = promoted + 1, false + (rates[name] <= edge + 1e-9)
            standing = standing.promoted(name, superior_to_reference=decision.lifts_reference)
            best = max(best, rates[str(standing.reference)])
        elif decision.verdict == "no decision" and scenes < 4 * SCENES and rng.random() < 0.5:
            # The question stays the same while nobody is promoted: it is the same try.
            assert decision.tried.asked == asked_of(gate, theirs, standing.reference)
            waiting = name, scenes, number
    end = rates[str(standing.champion)]
    return {"promoted": promoted, "false": false, "lost": START - end, "below": best - end}


def measure(lives: int) -> dict[str, Any]:
    """All rows."""
    rows: list[dict[str, Any]] = []
    with progress("gate in the pipeline", len(GATES) * len(STREAMS) * lives, unit="targets") as advance:
        for gate_name, criteria in GATES.items():
            gate = parse(GateParams, {"criteria": criteria}, "gate")
            for stream, candidates in STREAMS.items():
                found = []
                for seed in range(lives):
                    found.append(one_life(gate, candidates, seed))
                    advance()
                shares = np.array([life["false"] / max(life["promoted"], 1) for life in found])
                rows.append(
                    {
                        "gate": gate_name,
                        "candidates": stream,
                        "promotions": round(float(np.mean([life["promoted"] for life in found])), 3),
                        "false_share": round(float(shares.mean()), 4),
                        "false_share_error": round(float(shares.std()) / math.sqrt(lives), 4),
                        "lost": round(float(np.mean([life["lost"] for life in found])), 4),
                        "more_than_a_margin_below": round(
                            float(np.mean([life["below"] > MARGIN + 1e-9 for life in found])), 4
                        ),
                    }
                )
    return {
        "worst_false_share": max(row["false_share"] for row in rows),
        "worst_more_than_a_margin_below": max(
            row["more_than_a_margin_below"] for row in rows if row["gate"] != "superior"
        ),
        "targets": lives,
        "nights": NIGHTS,
        "rows": rows,
    }


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="4 targets a row")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    parser.add_argument("--out", type=Path, help="folder of pipeline.json")
    arguments = parser.parse_args()
    start = time.perf_counter()
    result = measure(QUICK_LIVES if arguments.quick else LIVES)
    result["seconds"] = round(time.perf_counter() - start, 1)
    if arguments.out:
        write_json(arguments.out / "pipeline.json", result)
    if arguments.json:
        print_json(result)
        return
    print_table(
        "gate in the pipeline",
        [
            (
                f"{row['gate']}: {row['candidates']}",
                f"{row['promotions']:.2f} promotions, {row['false_share']:.3f} false",
            )
            for row in result["rows"]
        ],
    )


if __name__ == "__main__":
    main()
