"""Success against the champion: one picture, and the numbers behind it."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

from posa_vla.html_page import plot
from posa_vla.pipeline.report.facts import Measured, RetrainingFacts
from posa_vla.pipeline.report.section import Section, table, text
from posa_vla.pipeline.report.words import interval_words, success_words

_COLOURS = ("#0b6bcb", "#8c959f")


def _named(facts: RetrainingFacts) -> dict[str, Measured]:
    """Label -> how it did, the candidate first."""
    named: dict[str, Measured] = {}
    if facts.success is not None:
        named[f"candidate (version {facts.candidate.model_version})"] = facts.success
    if facts.champion_success is not None:
        version = "" if facts.champion is None else f" (version {facts.champion.model_version})"
        named[f"champion{version}"] = facts.champion_success
    return named


def success_picture(facts: RetrainingFacts) -> bytes | None:
    """Success of candidate and champion with their 95 % intervals, and the gate's floor, as PNG.

    It is narrow, so that its letters can be read on a phone. None where nothing was simulated.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    named = _named(facts)
    if not named:
        return None
    figure = Figure(figsize=(5.2, 1.1 + 0.55 * len(named)), layout="constrained")
    FigureCanvasAgg(figure)
    axes: Any = figure.subplots()
    for place, (measured, colour) in enumerate(zip(named.values(), _COLOURS, strict=False)):
        if measured.rate is None:
            axes.text(50, place, "no valid outcome", va="center", ha="center")
            continue
        rate, low, high = (100 * value for value in (measured.rate, measured.low, measured.high))
        axes.plot([low, high], [place, place], color=colour, linewidth=7, solid_capstyle="butt", alpha=0.35)
        axes.plot([rate], [place], "o", color=colour, markersize=8)
        axes.annotate(f"{rate:.0f} %", (rate, place), (0, 9), textcoords="offset points", ha="center", fontsize=9)
    floor = facts.decision.gate.floor
    if floor >= 0:
        axes.axvline(100 * floor, color="#b3261e", linestyle="--", linewidth=1.2)
        axes.annotate(
            f"floor {100 * floor:.0f} %", (100 * floor, 1), (4, -10), xycoords=("data", "axes fraction"),
            textcoords="offset points", color="#b3261e", fontsize=8,
        )  # fmt: skip
    axes.set_yticks(range(len(named)), list(named), fontsize=9)
    axes.set(xlim=(-3, 103), ylim=(len(named) - 0.4, -0.75))
    axes.set_xlabel("episodes that succeed (%), with 95 % interval", fontsize=9)
    axes.tick_params(axis="x", labelsize=9)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.grid(axis="x", alpha=0.3)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=200, metadata={"Software": None})
    return picture.getvalue()


def _number(value: float | None, form: Callable[[float], str]) -> str:
    return "none" if value is None else form(value)


def success(facts: RetrainingFacts) -> Section | None:
    """The picture, and success, steps and path length as a table; None where nothing was simulated."""
    named, picture = _named(facts), success_picture(facts)
    if picture is None:
        return None
    words = "; ".join(f"{name}: {success_words(measured)}" for name, measured in named.items())
    rows = [
        [
            text(name),
            f"{measured.solved} of {measured.valid}",
            _number(measured.rate, lambda value: f"{100 * value:.0f} %"),
            interval_words(measured),
            _number(measured.mean_steps, lambda value: f"{value:.1f}"),
            _number(measured.mean_path_length, lambda value: f"{value:.2f} m"),
        ]
        for name, measured in named.items()
    ]
    paired = ""
    if facts.compared is not None:
        gained, lost = facts.compared
        paired = (
            f"<p>Scene by scene: the candidate alone solved {gained}, the champion alone {lost}; they agree on the "
            "others that both have a valid outcome of.</p>"
        )
    return Section(
        "Success",
        f"<p class=chart>{plot(picture, words)}</p>"
        + table(["policy", "solved", "success", "95 % interval", "mean steps to success", "mean path"], rows)
        + paired,
    )
