"""Small charts as inline SVG: no library, no network, and colours that the page's style sheet decides."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

WIDTH, HEIGHT = 560, 240
LEFT, RIGHT, TOP, BOTTOM = 48, 22, 20, 40
"""Room beside the plot for numbers and names, in the units of the drawing."""

MOST_BARS = 150
"""Bars of a chart of code use; a larger level is drawn with several codes a bar."""


STYLE = (
    "svg { background: #fff; font-family: sans-serif } .first { fill: #2f6fde } .second { fill: #d9772b } "
    ".chance { fill: #b4bcc9 } polyline { fill: none !important; stroke-width: 2 } polyline.first { stroke: #2f6fde } "
    "polyline.second { stroke: #d9772b } polyline.chance { stroke: #b4bcc9 } .grid { stroke: #e3e6eb } "
    ".tick { fill: #5b6472; font-size: 12px }"
)
"""Of a chart that stands outside of the page."""


class Series(NamedTuple):
    """One colour of a chart.

    Args:
        name: for the legend. style: `first`, `second` or `chance`.
        values: one a place on the horizontal axis, None where nothing was measured.
        labels: texts over the bars; none when empty.
    """

    name: str
    style: str
    values: Sequence[float | None]
    labels: Sequence[str] = ()


def usage_chart(counts: NDArray[np.int64]) -> str:
    """How many items each code of a level has, most used first; the dashed line is where all would be with even use.

    Args:
        counts: `int64[K]`.
    """
    width, height = 300, 96
    ordered = np.sort(counts)[::-1]
    bars = [float(part.mean()) for part in np.array_split(ordered, min(MOST_BARS, len(ordered)))]
    top, step = max(bars[0], 1.0), width / len(bars)
    drawn = "".join(
        f'<rect x="{number * step:.2f}" y="{height * (1 - bar / top):.2f}" width="{step - min(step / 5, 2):.2f}" '
        f'height="{height * bar / top:.2f}"/>'
        for number, bar in enumerate(bars)
        if bar > 0
    )
    even = height * (1 - float(counts.mean()) / top)
    label = f"Items of each of {len(counts):,} codes, sorted: {int(ordered[0]):,} down to {int(ordered[-1]):,}"
    return (
        f'<svg class="usage" viewBox="0 0 {width} {height}" role="img" aria-label="{label}">'
        f'<g class="first">{drawn}</g><line class="even" x1="0" x2="{width}" y1="{even:.2f}" y2="{even:.2f}"/></svg>'
    )


def bar_chart(names: Sequence[str], series: Sequence[Series], title: str, x_name: str) -> str:
    """Shares as bars that stand in groups, from 0 per cent up; a legend where there is more than one series.

    Args:
        names: of the groups. series: one value a group each. title: read out by a screen reader.
    """
    known = [value for one in series for value in one.values if value is not None]
    if not known:
        return '<p class="none">Nothing was measured here.</p>'
    marks = round_numbers(0.0, max(known))
    room = (WIDTH - LEFT - RIGHT) / len(names)
    broad = min(room * 0.72 / len(series), 64)
    parts = [_frame(marks, [f"{mark * 100:.4g}%" for mark in marks], title, x_name)]
    every = math.ceil(len(names) / 16)
    for group, name in enumerate(names):
        middle = LEFT + room * (group + 0.5)
        if group % every == 0:
            parts.append(_text("tick", middle, HEIGHT - BOTTOM + 16, name))
        for number, one in enumerate(series):
            if (value := one.values[group]) is None:
                continue
            x, y = middle + broad * (number - len(series) / 2), _down(value, marks)
            parts.append(
                f'<rect class="{one.style}" x="{x + 1:.1f}" y="{y:.1f}" width="{max(broad - 2, 1):.1f}" '
                f'height="{HEIGHT - BOTTOM - y:.1f}"><title>{escape(one.name)}: {value:.2%}</title></rect>'
            )
            if one.labels and broad >= 24:
                parts.append(_text("value", x + broad / 2, y - 5, one.labels[group]))
    return _closed(parts, series)


def line_chart(x: Sequence[float], series: Sequence[Series], title: str, x_name: str) -> str:
    """Lines over a numbered axis; values that differ a hundredfold stand on a logarithmic one.

    Args:
        x: places, ascending. series: one value a place each, no labels. title: read out by a screen reader.
    """
    known = [value for one in series for value in one.values if value is not None]
    if not known:
        return '<p class="none">Nothing was measured here.</p>'
    logarithmic = 0 < min(known) * 100 <= max(known)
    if logarithmic:
        marks = [
            float(power) for power in range(math.floor(math.log10(min(known))), math.ceil(math.log10(max(known))) + 1)
        ]
        names = [f"{10**mark:,.6g}" for mark in marks]
    else:
        marks = round_numbers(min(known), max(known))
        names = [f"{mark:,.6g}" for mark in marks]
    left, right = (x[0], x[-1]) if x[-1] > x[0] else (x[0] - 0.5, x[0] + 0.5)

    def across(place: float) -> float:
        return LEFT + (place - left) / (right - left) * (WIDTH - LEFT - RIGHT)

    parts = [_frame(marks, names, title, x_name)]
    for mark in round_numbers(left, right):
        if left <= mark <= right:
            parts.append(_text("tick", across(mark), HEIGHT - BOTTOM + 16, f"{mark:,.6g}"))
    for one in series:
        points = " ".join(
            f"{across(place):.1f},{_down(math.log10(value) if logarithmic else value, marks):.1f}"
            for place, value in zip(x, one.values, strict=True)
            if value is not None
        )
        parts.append(f'<polyline class="{one.style}" points="{points}"/>')
    return _closed(parts, series)


def standalone(chart: str, series: Sequence[Series]) -> str:
    """A chart as a file of its own, with its colours and a legend inside.

    Args:
        chart: what `line_chart` gave. series: its lines.
    """
    drawing = chart.partition("</svg>")[0].replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
    head, _, rest = drawing.partition(">")
    legend = "".join(
        f'<rect class="{one.style}" x="{LEFT + 8 + 190 * place}" y="4" width="10" height="10"/>'
        + _text("tick", LEFT + 24 + 190 * place, 13, one.name, "start")
        for place, one in enumerate(series)
    )
    return f"{head}><style>{STYLE}</style>{rest}{legend}</svg>\n"


def round_numbers(low: float, high: float, wanted: int = 5) -> list[float]:
    """About `wanted` round numbers at equal distances, the first at most `low`, the last at least `high`."""
    if high <= low:
        low, high = min(low, 0.0), max(high, 0.0)
    rough = (high - low or 1.0) / wanted
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(size * factor for factor in (1, 2, 5, 10) if size * factor >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [step * number for number in range(first, max(last, first + 1) + 1)]


def _down(value: float, marks: Sequence[float]) -> float:
    return TOP + (marks[-1] - value) / (marks[-1] - marks[0]) * (HEIGHT - TOP - BOTTOM)


def _text(style: str, x: float, y: float, text: str, anchor: str = "middle") -> str:
    return f'<text class="{style}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _frame(marks: Sequence[float], names: Sequence[str], title: str, x_name: str) -> str:
    """The beginning of a drawing, with its horizontal lines and their names."""
    parts = [f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">']
    for mark, name in zip(marks, names, strict=True):
        y = _down(mark, marks)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(_text("tick", LEFT - 8, y + 4, name, "end"))
    parts.append(_text("tick", (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 5, x_name))
    return "".join(parts)


def _closed(parts: Sequence[str], series: Sequence[Series]) -> str:
    """The drawing with its end, and the legend where one is needed."""
    names = "".join(f'<li class="{one.style}">{escape(one.name)}</li>' for one in series)
    return "".join([*parts, "</svg>", f'<ul class="legend">{names}</ul>' if len(series) > 1 else ""])
