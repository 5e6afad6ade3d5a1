"""An ablation's results as a table and as a plot."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from posa_vla.evaluation.ablation.plan import OWN_EXECUTION
from posa_vla.files import write_bytes


class _Column(NamedTuple):
    """A column of figures: key in the results, heading, text of a value, title in the plot."""

    key: str
    heading: str
    text: Callable[[Any], str]
    title: str = ""


def _text(estimate: Mapping[str, float | None], factor: float = 1, form: str = ".3g") -> str:
    if estimate["value"] is None:
        return "none"
    if estimate["low"] is None or estimate["high"] is None:
        return f"{format(factor * estimate['value'], form)} (too few scenes)"
    value, low, high = (format(factor * float(estimate[name] or 0), form) for name in ("value", "low", "high"))
    return f"{value} ({low} to {high})"


def _percent(estimate: Mapping[str, float | None]) -> str:
    return _text(estimate, 100, ".0f")


def _points(estimate: Mapping[str, float | None]) -> str:
    return _text(estimate, 100, "+.0f")


def _change(ratio: Mapping[str, float | None]) -> str:
    return _points({name: None if value is None else value - 1 for name, value in ratio.items()})


_OF_A_VARIANT = (
    _Column("success", "success (%)", _percent, "success on unseen scenes (%)"),
    _Column("steps_all", "steps, all scenes", _text, "steps, a failure at the limit (all scenes)"),
    _Column("steps", "steps", _text, "steps to success (solved scenes)"),
    _Column("path_over_expert", "path / expert's", _text),
    _Column("jerk", "jerk (mm)", lambda estimate: _text(estimate, 1000)),
)
_OF_A_COMPARISON = (
    _Column("success_difference", "success (points)", _points),
    _Column("steps_all_ratio", "steps, all scenes (%)", _change),
    _Column("steps_ratio", "steps (%)", _change),
    _Column("both_solved", "scenes both solve", str),
)
_PLACE = ("variant", "demonstrations", "condition")


def _known(columns: Sequence[_Column], summary: Mapping[str, Any]) -> list[_Column]:
    """Those that results of this version have: version 1 counts steps on solved scenes alone."""
    return [column for column in columns if summary["schema_version"] > 1 or not column.key.startswith("steps_all")]


def _lines(place: Sequence[str], columns: Sequence[_Column], rows: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = [[*place, *(column.heading for column in columns)]]
    for row in rows:
        cells = [str(row[name] if name in row else len(row["by_seed"])) for name in (*_PLACE, *place[3:])]
        lines.append([*cells, *(column.text(row[column.key]) for column in columns)])
    return [f"| {' | '.join(line)} |" for line in lines]


def table(summary: Mapping[str, Any]) -> str:
    """The results as Markdown.

    Args:
        summary: What `results.json` holds, of this version or the first.
    """
    plan = summary["plan"]
    variants = _lines((*_PLACE, "trainings"), _known(_OF_A_VARIANT, summary), summary["variants"])
    against = ("against", *_PLACE[1:])
    comparisons = _lines(against, _known(_OF_A_COMPARISON, summary), summary["comparisons"])
    lines = [
        f"# Ablation {plan['name']}",
        "",
        f"{plan['scenes']} unseen scenes for each condition, the same for every policy; training seeds "
        f"{', '.join(map(str, plan['training_seeds']))}. In brackets 95 % intervals over training seeds and scenes. "
        "Steps, path and jerk are those of solved scenes. Where there "
        "is one training, the interval is over scenes alone, and another training may differ by more.",
        *_about_execution(summary),
        "",
        variants[0],
        _rule(variants[0]),
        *variants[1:],
        "",
        f"`{plan['reference']}` minus the others, on the same scenes:",
        "",
        comparisons[0],
        _rule(comparisons[0]),
        *comparisons[1:],
    ]
    if summary["not_run"]:
        lines += ["", f"Not run, of the full plan: {len(summary['not_run'])} (`results.json` lists them)."]
    return "\n".join(lines) + "\n"


def _rule(heading: str) -> str:
    return "|" + "---|" * (heading.count("|") - 1)


def _about_execution(summary: Mapping[str, Any]) -> list[str]:
    """How steps of all scenes are counted, and how policies were run; nothing for results of version 1."""
    if summary["schema_version"] == 1:
        return []
    tuning = summary["plan"]["tuning"]
    limit = summary["params"]["evaluate"]["max_steps"]
    words = [f"Of all scenes: a failure counts as the limit of {limit} steps, so that failing cannot help."]
    if tuning["execution"] is not None:
        words.append(f"Every policy is run with {_execution(tuning['execution'])}.")
    for variant, execution in tuning["own_executions"].items():
        words.append(
            f"`{OWN_EXECUTION}` runs `{variant}` with {_execution(execution)}, which did best for it alone, on the "
            f"scenes of `{summary['first']}`."
        )
    return ["", " ".join(words)]


def _execution(execution: Mapping[str, Any]) -> str:
    steps = execution["flow_steps"]
    return f"start noise {execution['start_noise']:g} and {steps} flow step{'s' if steps != 1 else ''}"


def plot(summary: Mapping[str, Any], path: Path) -> None:
    """Success and steps with their intervals, one bar a variant and condition, as PNG."""
    import io

    from matplotlib.figure import Figure

    shown = [column for column in _known(_OF_A_VARIANT, summary) if column.title]
    figure = Figure(figsize=(1 + 4.5 * len(shown), 1.6 + 0.42 * len(summary["variants"])), layout="constrained")
    axes = figure.subplots(1, len(shown), sharey=True)
    for axis, column in zip(axes, shown, strict=True):
        _bars(axis, summary, column.key, 100 if column.key == "success" else 1, column.title)
    axes[0].set_xlim(0, 100)
    axes[0].invert_yaxis()  # shared by all: the first row above
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=130)
    write_bytes(path, file.getvalue())


def _bars(axis: Any, summary: Mapping[str, Any], name: str, factor: float, title: str) -> None:
    rows = summary["variants"]
    for place, row in enumerate(rows):
        estimate = row[name]
        if estimate["value"] is None:
            axis.text(0, place, " none", va="center", fontsize=8)
            continue
        value = factor * estimate["value"]
        reach = None
        if estimate["low"] is not None and estimate["high"] is not None:
            reach = [[value - factor * estimate["low"]], [factor * estimate["high"] - value]]
        colour = "tab:orange" if row["variant"] == summary["plan"]["reference"] else "tab:blue"
        axis.barh(place, value, xerr=reach, color=colour, height=0.6, capsize=3, ecolor="0.25")
    axis.set_yticks(range(len(rows)), [_label(row) for row in rows], fontsize=8)
    axis.set_title(title, fontsize=10)
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(axis="x", alpha=0.3)


def _label(row: Mapping[str, Any]) -> str:
    return f"{row['variant']} ({row['demonstrations']}, {row['condition']})"
