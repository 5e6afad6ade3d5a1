"""The validation report as people see it: one HTML page with plots; and as DVC shows it: metrics and plots."""

from __future__ import annotations

import csv
import html
import io
from collections import Counter
from pathlib import Path
from typing import Any

from posa_vla.dataset.validation.findings import Finding
from posa_vla.dataset.validation.report import ValidationReport
from posa_vla.episodes.lerobot.reader import DatasetReader
from posa_vla.episodes.store.episode_store import EpisodeStore
from posa_vla.errors import BadInput
from posa_vla.files import write_text
from posa_vla.html_page import page, plot

# Findings of one rule that the page lists; the JSON report has them all.
_LISTED = 50


def metrics_of(report: ValidationReport) -> dict[str, Any]:
    """What `dvc metrics` compares: counts of episodes, frames and findings."""
    severities = Counter(f.severity for f in report.findings if not f.released)
    quarantined = report.aside()
    whole = {batch for batch, episode in quarantined if episode is None}
    return {
        "episodes": report.episodes,
        "frames": report.frames,
        "superseded": report.superseded,
        "unreadable": report.unreadable,
        "quarantined": len(quarantined),
        "quarantined_batches": len(whole),
        "findings": {name: severities.get(name, 0) for name in ("severe", "warning", "info")},
        "rules": report.rules,
    }


def lengths(store: EpisodeStore) -> list[tuple[str, int, int, float]]:
    """Batch, number, frames and seconds of each episode that can be read and counts."""
    rows, replaced = [], store.replaced()
    for batch in store.batches():
        try:
            reader = DatasetReader(store.folder(batch))
        except BadInput:
            continue
        rows += [
            (batch, r.number, r.length, round(r.length / reader.fps, 3))
            for r in reader.records
            if r.extra.digest not in replaced
        ]
    return rows


def write_plots(store: EpisodeStore, report: ValidationReport, folder: Path) -> None:
    """Writes what `dvc plots` draws: `lengths.csv` and `findings.csv`."""
    tables: dict[str, list[tuple[Any, ...]]] = {
        "lengths": [("episode", "seconds"), *((i, row[3]) for i, row in enumerate(lengths(store)))],
        "findings": [("rule", "count"), *report.rules.items()],
    }
    for name, rows in tables.items():
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        write_text(folder / f"{name}.csv", text.getvalue())


def _figure(draw: Any, size: tuple[float, float], text: str) -> str:
    """A drawing as an `img` element; `text` says what it shows."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    draw(figure.subplots())
    picture = io.BytesIO()
    # No date and no version in the file: the same report is the same bytes.
    FigureCanvasAgg(figure)
    figure.savefig(picture, format="png", metadata={"Software": None})
    return plot(picture.getvalue(), text)


def _plots(store: EpisodeStore, report: ValidationReport) -> str:
    seconds = [row[3] for row in lengths(store)]

    def durations(axes: Any) -> None:
        axes.hist(seconds, bins=min(40, max(len(seconds), 1)), color="#3b6ea5")
        axes.set(xlabel="length of an episode (s)", ylabel="episodes")

    def rules(axes: Any) -> None:
        worst = {f.rule: f.severity for f in report.findings}
        colours = {"severe": "#b3261e", "warning": "#d29922", "info": "#8c959f"}
        names = list(report.rules)[::-1]
        counts = [report.rules[name] for name in names]
        bars = axes.barh(names, counts, color=[colours[worst[name]] for name in names])
        axes.bar_label(bars, padding=3)
        axes.set(xlabel="findings")
        axes.margins(x=0.1)

    figures = [_figure(durations, (7, 2.6), "how long the episodes are")] if seconds else []
    if report.rules:
        figures.append(_figure(rules, (7, 0.8 + 0.3 * len(report.rules)), "findings of each rule"))
    return "".join(figures)


def _table(findings: list[Finding]) -> str:
    rows = []
    for finding in findings[:_LISTED]:
        place = f"{finding.batch[:12]} / {'all' if finding.episode is None else finding.episode}"
        frame = "" if finding.frame is None else finding.frame
        words = finding.value + (f" (released: {finding.released})" if finding.released else "")
        rows.append(
            f"<tr><td class={finding.severity}>{finding.severity}</td><td><code>{place}</code></td>"
            f"<td class=n>{frame}</td><td>{html.escape(words)}</td></tr>"
        )
    more = len(findings) - _LISTED
    rest = f"<tr><td colspan=4>and {more} more, in report.json</td></tr>" if more > 0 else ""
    return (
        "<div class=scroll><table><tr><th>severity<th>batch / episode<th>frame<th>found</tr>"
        + "".join(rows)
        + rest
        + "</table></div>"
    )


def page_of(store: EpisodeStore, report: ValidationReport) -> str:
    """The report as one HTML page that needs nothing beside it."""
    metrics = metrics_of(report)
    numbers = [
        (report.episodes, "episodes"),
        (report.frames, "frames"),
        (metrics["quarantined"], "quarantined"),
        (metrics["findings"]["warning"], "warnings"),
    ]
    by_rule: dict[str, list[Finding]] = {}
    order = {"severe": 0, "warning": 1, "info": 2}
    for finding in sorted(report.findings, key=lambda f: (order[f.severity], f.rule)):
        by_rule.setdefault(finding.rule, []).append(finding)
    sections = [
        f"<h2>{rule} ({len(found)})</h2><p>{html.escape(found[0].remedy)}</p>{_table(found)}"
        for rule, found in by_rule.items()
    ]
    tiles = "".join(f"<div><b>{number:,}</b>{label}</div>" for number, label in numbers)
    body = (
        f"<p>Episode store <code>{report.store_digest[:12]}</code></p><div class=numbers>{tiles}</div>"
        f"<p>Quarantined episodes are kept, and not trained on. <code>posa data quarantine</code> lists them; "
        f"<code>posa data release EPISODE --reason TEXT</code> lets one in.</p>{_plots(store, report)}"
        + ("".join(sections) or "<p>Nothing was found.</p>")
    )
    return page("Validation report", body)
