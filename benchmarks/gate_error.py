"""How often the gate is wrong: false promotions, power, and what it does to a target over its life.

    python benchmarks/gate_error.py [--quick] [--json] [--out DIR]

- `worst_false_promotion`: chance to promote a candidate that is exactly no better (superiority), or exactly worse by
  the margin (non-inferiority), looking after every one of 400 pairs at level 0.05; the worst over success and
  discordance.
- `power_0.6_0.9`: chance to promote 0.9 against 0.6 within 100 pairs at level 0.05.
- `power_by_retraining`: the same for +30, +20 and 0 points within 400 pairs, at the level of the 1st, 10th, 50th and
  200th retraining of a target that has promoted nothing.
- `lifetime_worse_share`: of a target's promotions in 50 nights, the share that was false, on average over targets; the
  worst over streams of candidates and both kinds of the gate.
- `drift_50_nights`: success that the champion has lost after 50 nights, on average; the worst over three streams of
  candidates, of the gate as it is by default (superiority).

Every row is 10,000 runs (`--quick`: 1,000) with new random numbers; `exact` is the same chance by dynamic programming.
`--out` writes results.json, table.md and drift.svg.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from gate_lifetimes import (
    ALPHA,
    MARGIN,
    PAIRS,
    Bools,
    Candidates,
    Floats,
    Gate,
    Lifetimes,
    Night,
    fixed_n,
    gate_of_params,
    higher_mean,
    live,
    peeking,
)
from gate_report import drift_plot, table

from posa_vla.console import print_json, print_table, progress
from posa_vla.evidence.account import level_of
from posa_vla.evidence.betting import Claim, log_e_process
from posa_vla.evidence.plan import outlook
from posa_vla.files import write_json, write_text

RUNS, QUICK_RUNS = 10_000, 1_000
SUCCESS = (0.1, 0.25, 0.5, 0.75, 0.9, 0.95)
MARGINS = (0.0, 0.05, 0.1)
RETRAININGS = (1, 10, 50, 200)
NIGHTS = 50
# Gained and lost alone: 0.6 to 0.9 independently of each other; 20 and 0 points at discordance 0.35.
GAINS = {"+30": (0.36, 0.06), "+20": (0.275, 0.075), "0": (0.175, 0.175)}

STREAMS: dict[str, tuple[float, Candidates]] = {
    "decayed: candidates around 0.74": (0.9, lambda rng, champion: rng.normal(0.74, 0.05, len(champion))),
    "each 3 points worse than the champion": (0.9, lambda rng, champion: champion - 0.03),
    "each 8 points worse than the champion": (0.9, lambda rng, champion: champion - 0.08),
}
LIVES: dict[str, tuple[float, Candidates]] = {
    "all equal to the champion": (0.7, lambda rng, champion: champion),
    "worse by the margin": (0.8, lambda rng, champion: champion - MARGIN),
    "as often better as worse, by 8 points or so": (
        0.6,
        lambda rng, champion: champion + rng.normal(0, 0.08, len(champion)),
    ),
    "one in ten 15 points better, else 5 worse": (
        0.5,
        lambda rng, champion: champion + np.where(rng.random(len(champion)) < 0.1, 0.15, -0.05),
    ),
}
RULES: dict[str, Callable[[Night], Bools]] = {
    "the mean of 50 is higher": higher_mean,
    "sign test, 100 pairs": fixed_n,
    "sign test after every pair": peeking,
    "gate: block of params.yaml, 50 pairs": gate_of_params,
}


def edges() -> Iterator[tuple[float, float, float, float]]:
    """Margin, success of the champion, chances that one of both alone succeeds: exactly on the edge of the claim."""
    for margin in MARGINS:
        for success in SUCCESS:
            ours = success - margin
            if ours < 0:
                continue
            most = 2 * min(ours, 1 - success) + margin
            independent = ours * (1 - success) + success * (1 - ours)
            for discordance in sorted({round(max(margin + 0.02, most / 4), 4), round(independent, 4), round(most, 4)}):
                if margin < discordance <= most + 1e-9:
                    yield margin, success, (discordance - margin) / 2, (discordance + margin) / 2


def promoted_share(gained: float, lost: float, claim: Claim, level: float, pairs: int, runs: int, seed: int) -> float:
    """Share of the runs whose e-value ever reaches 1/level."""
    rng, found = np.random.default_rng([3, seed]), 0
    for block in range(0, runs, 2000):
        drawn = rng.random((min(2000, runs - block), pairs))
        values = np.where(drawn < gained, 1.0, np.where(drawn < gained + lost, -1.0, 0.0))
        found += int((log_e_process(values, claim).max(1) >= -math.log(level)).sum())
    return found / runs


def graded_share(runs: int) -> float:
    """The same for scores of stages, 0.5 on average on both sides, whose differences are not only -1, 0 and 1."""
    rng, found = np.random.default_rng(5), 0
    for block in range(0, runs, 1000):
        size = min(1000, runs - block), PAIRS
        ours, theirs = rng.binomial(4, 0.5, size) / 4, rng.choice([0, 0.25, 1], size, p=[0.35, 0.2, 0.45])
        found += int((log_e_process(ours - theirs, Claim(0.0)).max(1) >= -math.log(ALPHA)).sum())
    return found / runs


def _spread(share: float, runs: int) -> float:
    return round(math.sqrt(share * (1 - share) / runs), 5)


def error_rows(runs: int, advance: Callable[[], None]) -> Iterator[dict[str, Any]]:
    """False promotions on the edge of the claim."""
    for number, (margin, success, gained, lost) in enumerate(edges()):
        claim = Claim(-margin)
        share = promoted_share(gained, lost, claim, ALPHA, PAIRS, runs, number)
        yield {
            "what": "false promotion",
            "kind": "non-inferior" if margin else "superior",
            "margin": margin,
            "champion": success,
            "discordance": round(gained + lost, 4),
            "rate": share,
            "standard_error": _spread(share, runs),
            "exact": round(float(outlook(gained, lost, claim, level=ALPHA, pairs=PAIRS).promote[-1]), 5),
        }
        advance()
    share = graded_share(runs)
    yield {
        "what": "false promotion",
        "kind": "superior",
        "margin": 0.0,
        "scores": "stages",
        "rate": share,
        "standard_error": _spread(share, runs),
    }
    advance()


def power_row(name: str, gained: float, lost: float, retraining: int | None, runs: int) -> dict[str, Any]:
    """Chance to promote within 100 pairs at 0.05, or within 400 at the level of a retraining."""
    pairs, level = (100, ALPHA) if retraining is None else (PAIRS, float(level_of(retraining, 0, ALPHA)))
    seed = 1000 + (retraining or 0)
    share = promoted_share(gained, lost, Claim(0.0), level, pairs, runs, seed)
    exact = outlook(gained, lost, Claim(0.0), level=level, pairs=pairs)
    return {
        "what": "power",
        "points": name,
        "retraining": retraining,
        "level": level,
        "pairs": pairs,
        "rate": share,
        "standard_error": _spread(share, runs),
        "exact": round(float(exact.promote[-1]), 5),
        "median_pairs": exact.pairs_for(0.5),
    }


def one_night(rule: Callable[[Night], Bools], ours: float, theirs: float, runs: int, seed: int) -> float:
    """Chance that a candidate is promoted on its target's first night, at level 0.05."""
    rng, found = np.random.default_rng([11, seed]), 0
    for block in range(0, runs, 1000):
        size = min(1000, runs - block)
        candidate, champion = (rng.random((size, PAIRS)) < rate for rate in (ours, theirs))
        found += int(rule(Night(candidate, champion, champion, np.full(size, ALPHA))).sum())
    return found / runs


def _life_row(what: str, name: str, stream: str, lives: Lifetimes) -> dict[str, Any]:
    return {
        "what": what,
        "rule": name,
        "stream": stream,
        "promotions": round(float(lives.promoted.mean()), 4),
        "false_share": round(float(lives.false_share.mean()), 5),
        "false_share_error": round(float(lives.false_share.std()) / math.sqrt(len(lives.lost)), 5),
        "lost": round(float(lives.lost.mean()), 5),
        "lost_error": round(float(lives.lost.std()) / math.sqrt(len(lives.lost)), 5),
        "lost_more_than_5_points": round(float((lives.lost > MARGIN + 1e-9).mean()), 5),
    }


def measure(runs: int) -> tuple[dict[str, Any], dict[str, dict[str, Floats]]]:
    """All figures, and the champions' mean success by stream and rule for the plot."""
    superior, refresh = Gate(), Gate(MARGIN)
    _same_as_the_product(superior, refresh)
    gates: dict[str, Callable[[Night], Bools]] = {"ours: superior": superior, "ours: refresh, margin 0.05": refresh}
    rules = {**gates, **RULES}
    singles = [("6 points worse than 0.9", 0.84, 0.9), ("equal at 0.9", 0.9, 0.9), ("0.9 against 0.6", 0.9, 0.6)]
    parts = len(list(edges())) + 1 + 13 + len(rules) * len(singles) + len(LIVES) * 2 + len(STREAMS) * len(rules)
    rows: list[dict[str, Any]] = []
    paths: dict[str, dict[str, Floats]] = {name: {} for name in STREAMS}
    with progress("gate error", parts, unit="rows") as advance:
        rows += error_rows(runs, advance)
        rows.append(power_row("0.6 to 0.9", 0.36, 0.06, None, runs))
        advance()
        for number in RETRAININGS:
            for points, (gained, lost) in GAINS.items():
                rows.append(power_row(points, gained, lost, number, runs))
                advance()
        for name, rule in rules.items():
            for seed, (case, ours, theirs) in enumerate(singles):
                share = one_night(rule, ours, theirs, runs, seed)
                spread = _spread(share, runs)
                rows.append({"what": "one night", "rule": name, "case": case, "rate": share, "standard_error": spread})
                advance()
        for stream, (start, candidates) in LIVES.items():
            for name, rule in gates.items():
                lives = live(rule, candidates, start=start, runs=runs, nights=NIGHTS)
                rows.append(_life_row("lifetime", name, stream, lives))
                advance()
        for stream, (start, candidates) in STREAMS.items():
            for name, rule in rules.items():
                lives = live(rule, candidates, start=start, runs=runs, nights=NIGHTS)
                rows.append(_life_row("drift", name, stream, lives))
                paths[stream][name] = lives.champions.mean(0)
                advance()
    power: dict[str, dict[str, float]] = {str(number): {} for number in RETRAININGS}
    for row in rows:
        if row["what"] == "power" and row["retraining"] is not None:
            power[str(row["retraining"])][row["points"]] = row["rate"]
    result = {
        "worst_false_promotion": max(row["rate"] for row in rows if row["what"] == "false promotion"),
        "power_0.6_0.9": next(row["rate"] for row in rows if row["what"] == "power" and row["retraining"] is None),
        "power_by_retraining": power,
        "lifetime_worse_share": max(row["false_share"] for row in rows if row["what"] == "lifetime"),
        "drift_50_nights": max(
            row["lost"] for row in rows if row["what"] == "drift" and row["rule"] == "ours: superior"
        ),
        "runs": runs,
        "rows": rows,
    }
    return result, paths


def _same_as_the_product(*gates: Gate) -> None:
    """Stops where the tables of the lifetimes are not what the gate computes."""
    drawn = np.random.default_rng(0).choice([-1, 0, 1], (20, PAIRS), p=[0.2, 0.5, 0.3])
    counts = [(drawn == side).cumsum(1, dtype=np.int32) for side in (1, -1)]
    for gate in gates:
        for money in (gate.support, gate.against):
            if not np.allclose(money(*counts), log_e_process(drawn, money.claim), atol=1e-3):
                raise AssertionError(f"the table of {money.claim} is not the e-process")


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="1,000 runs a row")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    parser.add_argument("--out", type=Path, help="folder of results.json, table.md and drift.svg")
    arguments = parser.parse_args()
    start = time.perf_counter()
    result, paths = measure(QUICK_RUNS if arguments.quick else RUNS)
    result["seconds"] = round(time.perf_counter() - start, 1)
    if arguments.out:
        write_json(arguments.out / "results.json", result)
        write_text(arguments.out / "table.md", table(result))
        for name, stream in (("drift.svg", next(iter(STREAMS))), ("drift-3-points.svg", list(STREAMS)[1])):
            write_text(arguments.out / name, drift_plot(paths, stream))
    if arguments.json:
        print_json(result)
        return
    figures = {name: value for name, value in result.items() if isinstance(value, float)}
    print_table("gate error", [(name, f"{value:.4f}") for name, value in figures.items()])


if __name__ == "__main__":
    main()
