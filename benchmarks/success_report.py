"""Table and plot of success by calibration."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from calibrated_data import CALIBRATIONS, SPLITS, labels_of

from posa_vla.dataset.shards.manifest import read_manifest
from posa_vla.errors import BadInput
from posa_vla.evaluation.ablation.figures import compare_groups, group_figures
from posa_vla.evaluation.ablation.rows import TrainingRows, lines_json
from posa_vla.files import read_json, write_bytes, write_text
from posa_vla.params import Params
from posa_vla.schema import parse

# The name of the only condition in the rows.
CONDITION = "bench"
# Everything is compared with this one.
_REFERENCE = "true"


def label_errors(data: Path, name: str) -> dict[str, Any]:
    """How far a calibration's labels are from those of the true one, as shares of the picture's longer side.

    Args:
        data: Folder of prepared data with the calibration and the true one.
        name: The calibration.

    Returns:
        Camera -> `labelled`, the share of the frames with a task label, `median` and `p90` of the errors of both
        anchors; None where no frame has a label.
    """
    manifest = read_manifest(data / name)
    figures: dict[str, Any] = {}
    for role in manifest.cameras:
        errors = []
        for split in SPLITS:
            ours, true = labels_of(data, name, split), labels_of(data, _REFERENCE, split)
            valid, points = f"anchor_valid.{role}", f"anchor_points.{role}"
            both = ours[valid] & true[valid]
            errors.append(np.linalg.norm(ours[points][both] - true[points][both], axis=1) / manifest.image_size)
        known = np.concatenate(errors)
        median, p90 = (float(np.quantile(known, q)) for q in (0.5, 0.9)) if len(known) else (None, None)
        figures[role] = {
            "labelled": manifest.labels[role].task,
            "median": None if median is None else round(median, 5),
            "p90": None if p90 is None else round(p90, 5),
        }
    return figures


def _trainings(out: Path) -> dict[str, dict[int, TrainingRows]]:
    found: dict[str, dict[int, TrainingRows]] = {}
    for path in sorted((out / "rows").glob("*.json")):
        rows = parse(TrainingRows, read_json(path), str(path))
        found.setdefault(rows.variant, {})[rows.seed] = rows
    if not found:
        raise BadInput(f"{out}/rows holds no rows: run the stage `run` first")
    every = [rows for of in found.values() for rows in of.values()]
    for rows in every:
        for what, same in (
            ("scenes", rows.conditions[CONDITION].scenes == every[0].conditions[CONDITION].scenes),
            ("code", rows.origin.code == every[0].origin.code),
            ("demonstrations", rows.demonstrations == every[0].demonstrations),
        ):
            if not same:
                raise BadInput(
                    f"{rows.cell.name} has other {what} than {every[0].cell.name}: they cannot be compared, run one "
                    "of them again"
                )
    return {name: found[name] for name in CALIBRATIONS if name in found}


def write_report(data: Path, out: Path, params: Params) -> dict[str, Any]:
    """Writes `table.json`, `table.md` and `plot.png` beside the rows.

    Args:
        data: Folder of prepared data; where it is not at hand, the errors are those of an earlier `table.json`.
        out: Folder of results.
        params: Of the trainings.

    Returns:
        What `table.json` holds.

    Raises:
        BadInput: There are no rows, or errors are neither there nor at hand, or have nothing to be measured from.
    """
    trainings, limit = _trainings(out), params.evaluate.max_steps
    if data.exists() and not (data / _REFERENCE).is_dir():
        raise BadInput(
            f"{data} has no data of the calibration `{_REFERENCE}`, from whose labels errors are measured: run the "
            "stage `data` with it"
        )
    groups = {
        name: {seed: rows.conditions[CONDITION].rows() for seed, rows in of.items()} for name, of in trainings.items()
    }
    before = read_json(out / "table.json")["calibrations"] if (out / "table.json").exists() else []
    known = {row["calibration"]: row["labels"] for row in before}
    calibrations = []
    for name, group in groups.items():
        if not data.exists() and name not in known:
            raise BadInput(f"{data} does not exist: name the prepared data with --data")
        figures = group_figures(group, {}, limit)
        row = {
            "calibration": name,
            "labels": label_errors(data, name) if data.exists() else known[name],
            **{key: figures[key] for key in ("success", "steps_all", "by_seed", "scenes")},
        }
        if name != _REFERENCE and _REFERENCE in groups:
            compared = compare_groups(groups[_REFERENCE], group, limit)
            row["true_minus_this"] = compared["success_difference"]
        calibrations.append(row)
    every = [rows for of in trainings.values() for rows in of.values()]
    summary = {
        "schema_version": 1,
        "params": params.model_dump(mode="json"),
        "calibrations": calibrations,
        "training_seconds": round(sum(rows.seconds for rows in every), 1),
        "machines": sorted({rows.machine for rows in every}),
        "commits": sorted({rows.commit for rows in every if rows.commit}),
    }
    write_text(out / "table.json", lines_json(summary))
    write_text(out / "table.md", _table(summary))
    _plot(calibrations, out / "plot.png")
    return summary


def _percent(estimate: Mapping[str, float | None], form: str = ".0f") -> str:
    value, low, high = (estimate[name] for name in ("value", "low", "high"))
    if value is None:
        return "none"
    if low is None or high is None:
        return f"{format(100 * value, form)} (too few scenes)"
    return f"{format(100 * value, form)} ({format(100 * low, form)} to {format(100 * high, form)})"


def _error(labels: Mapping[str, Any]) -> str:
    if labels["median"] is None:
        return "no labels"
    return f"{100 * labels['median']:.2g}, {100 * labels['p90']:.2g}"


def _table(summary: Mapping[str, Any]) -> str:
    rows, params = summary["calibrations"], summary["params"]
    roles = list(rows[0]["labels"])
    heading = ["calibration", "trainings", "success (%)", "each training (%)", "`true` minus this (points)"]
    heading += [f"{role}: labelled (%)" for role in roles] + [f"{role}: error (%), median, p90" for role in roles]
    lines = [heading, ["---"] * len(heading)]
    for row in rows:
        lines.append(
            [
                row["calibration"],
                str(len(row["by_seed"])),
                _percent(row["success"]),
                ", ".join(f"{100 * rate:.0f}" for rate in row["by_seed"].values()),
                _percent(row["true_minus_this"], "+.0f") if "true_minus_this" in row else "",
                *(f"{100 * row['labels'][role]['labelled']:.0f}" for role in roles),
                *("0" if row["calibration"] == _REFERENCE else _error(row["labels"][role]) for role in roles),
            ]
        )
    size, side = params["collect"]["image_size"], params["prepare"]["image_size"]
    text = [
        "# Success by calibration",
        "",
        f"The test bench (`so101_bench`, task `pick_place`), the expert on {params['collect']['episodes']} scenes, "
        f"recorded as joints and video of {size} x {size * 3 // 4}; pictures are fitted into {side} px. "
        f"{params['train']['steps']} steps a training, {rows[0]['scenes']} unseen scenes, the same for every policy. "
        "In brackets 95 % intervals over training seeds and scenes; where there is one training, over scenes alone, "
        "and another training may differ by more. Errors are those of the labels, as shares of the "
        "picture's longer side. `none` is the baseline without anchors, which `model.gate: auto` makes of data without "
        "labels.",
        "",
        *(f"| {' | '.join(line)} |" for line in lines),
        "",
        "![success by calibration](plot.png)",
    ]
    return "\n".join(text) + "\n"


def _plot(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Each training's success, and the mean with its interval, as PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axis = figure.subplots()
    for place, row in enumerate(rows):
        success, rates = row["success"], [100 * rate for rate in row["by_seed"].values()]
        colour = "tab:orange" if row["calibration"] == _REFERENCE else "tab:blue"
        value = 100 * success["value"]
        axis.bar(place, value, color=colour, width=0.6, alpha=0.35)
        if success["low"] is not None and success["high"] is not None:
            reach = [[value - 100 * success["low"]], [100 * success["high"] - value]]
            axis.errorbar(place, value, yerr=reach, color="0.25", capsize=5, linewidth=1.5)
        beside = place + np.linspace(-0.12, 0.12, len(rates)) if len(rates) > 1 else [place]
        axis.plot(beside, rates, "o", color=colour, markeredgecolor="0.2", markersize=6)
        axis.annotate(f"{value:.0f} %", (place + 0.32, value), fontsize=9, va="center")
    axis.set_xticks(range(len(rows)), [row["calibration"] for row in rows])
    axis.set_xlim(-0.5, len(rows) - 0.25)
    axis.set_ylim(0, 100)
    axis.set_ylabel("success on unseen scenes (%)")
    axis.set_xlabel("calibration (points: trainings; bars: mean and 95 % interval)")
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(axis="y", alpha=0.3)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=130)
    write_bytes(path, file.getvalue())
