"""Tables and plots of the gate's figures."""

from __future__ import annotations

from typing import Any

from gate_lifetimes import Floats

from posa_vla.evidence.svg_chart import Line, line_chart


def table(result: dict[str, Any]) -> str:
    """The figures as Markdown."""
    rows = result["rows"]
    lines = [
        f"{result['runs']:,} runs a row; `python benchmarks/gate_error.py` made it.",
        "",
        "| figure | value |",
        "|---|---|",
        *(f"| {name} | {result[name]:.4f} |" for name in result if isinstance(result[name], float)),
        "",
        "| promoted within 400 pairs at retraining | +30 points | +20 points | 0 points |",
        "|---|---|---|---|",
        *(
            f"| {number} | {of['+30']:.3f} | {of['+20']:.3f} | {of['0']:.4f} |"
            for number, of in result["power_by_retraining"].items()
        ),
        "",
        "| rule | case | promoted |",
        "|---|---|---|",
        *(f"| {row['rule']} | {row['case']} | {row['rate']:.3f} |" for row in rows if row["what"] == "one night"),
    ]
    for what, title in (("lifetime", "50 nights"), ("drift", "50 nights from 0.90")):
        lines += ["", f"| rule, {title} | candidates | promotions | false share | success lost | lost > 5 points |"]
        lines.append("|---|---|---|---|---|---|")
        lines += [
            f"| {row['rule']} | {row['stream']} | {row['promotions']:.2f} | {row['false_share']:.4f} | "
            f"{row['lost']:+.4f} | {row['lost_more_than_5_points']:.3f} |"
            for row in rows
            if row["what"] == what
        ]
    worst = sorted((row for row in rows if row["what"] == "false promotion"), key=lambda row: -row["rate"])[:8]
    lines += [
        "",
        "| worst false promotions | margin | champion | discordance | rate | exact |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['kind']} | {row['margin']:g} | {row.get('champion', 'stages')} | {row.get('discordance', '-')} | "
        f"{row['rate']:.4f} | {row.get('exact', float('nan')):.4f} |"
        for row in worst
    ]
    return "\n".join(lines) + "\n"


def drift_plot(paths: dict[str, dict[str, Floats]], stream: str) -> str:
    """The champion's success over the nights, mean of all lifetimes, by rule."""
    lines = [Line(name, range(len(y)), [float(v) for v in y]) for name, y in paths[stream].items()]
    return line_chart(f"Drift: {stream}", "night", "true success of the champion (mean)", lines)
