"""Line charts as SVG text, which a browser shows alone or inside a page, in dark and light."""

from __future__ import annotations

import html
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

# Right end of the axis and height of the drawing, and the room around the axes (pixels).
_END, _HEIGHT = 570, 340
_LEFT, _TOP, _BOTTOM = 64, 34, 46
# Room for a letter of the lines' names, which stand to the right (pixels).
_LETTER = 7.2
# Distinguishable with every kind of colour vision (Okabe and Ito 2008), and readable on both backgrounds.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#b8860b", "#cc79a7", "#5a9bd4", "#777777")
# Pixels between two labels at the right end, and points that a line has at most.
_LABEL_ROOM, _POINTS = 14, 1000
_STYLE = (
    "svg{background:#fff;font:12px system-ui,sans-serif}text{fill:#1b1f24}.quiet{fill:#57606a}"
    ".grid{stroke:#d8dee4}.axis{stroke:#57606a}"
    "@media(prefers-color-scheme:dark){svg{background:#16191d}text{fill:#e6e9ec}.quiet{fill:#9aa4af}"
    ".grid{stroke:#3a4048}.axis{stroke:#9aa4af}}"
)


@dataclass(frozen=True)
class Line:
    """One line of a chart.

    Attributes:
        name: Written at its right end.
        x: Places of its points, rising.
        y: Their heights; a line of two points with the same height is a threshold.
        low: Lower edge of a band around it; empty for none.
        high: Upper edge.
        dashed: Drawn so.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = field(default=())
    high: Sequence[float] = field(default=())
    dashed: bool = False


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers in between, five or so."""
    step = 10 ** math.floor(math.log10((high - low) / 4))
    for factor in (1, 2, 5, 10):
        if (high - low) / (step * factor) <= 6:
            step *= factor
            break
    return [n * step for n in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def _thinned(count: int) -> list[int]:
    """Which of a line's points are drawn: all, or evenly many with the last."""
    every = max(math.ceil(count / _POINTS), 1)
    return sorted({*range(0, count, every), count - 1})


def _apart(places: list[float]) -> list[float]:
    """The heights of labels, moved so that none lies on another."""
    order = sorted(range(len(places)), key=places.__getitem__)
    found = list(places)
    for before, after in itertools.pairwise(order):
        found[after] = max(found[after], found[before] + _LABEL_ROOM)
    return found


def line_chart(
    title: str,
    x_label: str,
    y_label: str,
    lines: Sequence[Line],
    *,
    y_range: tuple[float, float] | None = None,
    powers_of_ten: bool = False,
) -> str:
    """A chart as one `<svg>` element.

    Args:
        title: What it shows, also for those who cannot see it.
        x_label: Below the axis.
        y_label: Above the other one.
        lines: At least one, each with a point.
        y_range: Of the heights; what lies outside is drawn at the edge. By default all lines fit.
        powers_of_ten: Heights are logarithms to base 10, and the axis says the numbers.

    Raises:
        ValueError: There is nothing to draw, or a number that is not finite.
    """
    numbers = [v for line in lines for v in (*line.x, *line.y, *line.low, *line.high)]
    if not numbers or not all(math.isfinite(v) for v in numbers):
        raise ValueError(f"{title}: {len(numbers)} numbers, expected at least one and none that is not finite")
    left, right = min(v for line in lines for v in line.x), max(v for line in lines for v in line.x)
    heights = [v for line in lines for v in (*line.y, *line.low, *line.high)]
    bottom, top = y_range or (min(heights), max(heights))
    right, top = right if right > left else left + 1, top if top > bottom else bottom + 1

    def across(x: float) -> float:
        return _LEFT + (x - left) / (right - left) * (_END - _LEFT)

    def down(y: float) -> float:
        return _HEIGHT - _BOTTOM - (min(max(y, bottom), top) - bottom) / (top - bottom) * (_HEIGHT - _TOP - _BOTTOM)

    def path(x: Sequence[float], y: Sequence[float]) -> str:
        return " ".join(f"{across(x[n]):.1f},{down(y[n]):.1f}" for n in _thinned(len(x)))

    parts = []
    for y in _ticks(bottom, top):
        if powers_of_ten and y != round(y):
            continue
        value = f"{10**y:,.0f}" if powers_of_ten and 0 <= y <= 6 else f"1e{y:.0f}" if powers_of_ten else f"{y:g}"
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_END}" y1="{down(y):.1f}" y2="{down(y):.1f}"/>')
        parts.append(f'<text class="quiet" x="{_LEFT - 6}" y="{down(y) + 4:.1f}" text-anchor="end">{value}</text>')
    for x in _ticks(left, right):
        parts.append(
            f'<text class="quiet" x="{across(x):.1f}" y="{_HEIGHT - _BOTTOM + 18}" text-anchor="middle">{x:g}</text>'
        )
    labels = _apart([down(line.y[-1]) for line in lines])
    for number, (line, place) in enumerate(zip(lines, labels, strict=True)):
        colour, dash = COLOURS[number % len(COLOURS)], ' stroke-dasharray="6 4"' if line.dashed else ""
        if line.low:
            edge = f"{path(line.x, line.high)} {' '.join(reversed(path(line.x, line.low).split()))}"
            parts.append(f'<polygon points="{edge}" fill="{colour}" opacity="0.18"/>')
        parts.append(
            f'<polyline points="{path(line.x, line.y)}" fill="none" stroke="{colour}" stroke-width="2"{dash}/>'
        )
        name = html.escape(line.name)
        parts.append(f'<text x="{_END + 6}" y="{place + 4:.1f}" style="fill:{colour};font-weight:600">{name}</text>')
    axis = f'<line class="axis" x1="{_LEFT}" x2="{_END}" y1="{_HEIGHT - _BOTTOM}" y2="{_HEIGHT - _BOTTOM}"/>'
    words = [
        f'<text x="{_LEFT}" y="18" font-weight="600">{html.escape(y_label)}</text>',
        f'<text class="quiet" x="{(_LEFT + _END) // 2}" y="{_HEIGHT - 10}" text-anchor="middle">'
        f"{html.escape(x_label)}</text>",
    ]
    width = _END + 12 + math.ceil(_LETTER * max(len(line.name) for line in lines))
    drawn = "".join([*parts, axis, *words])
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {_HEIGHT}" width="{width}" height="{_HEIGHT}" '
        f'role="img"><title>{html.escape(title)}</title><style>{_STYLE}</style>'
        f"{drawn}</svg>\n"
    )
