"""Plots that compare models, as inline SVG; each model has its colour, `m0` to `m7`, on all plots of a page."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape
from typing import NamedTuple

from llmrec.pages.charts import round_numbers
from llmrec.pages.render import amount

COLOURS = 8
"""Models beyond these begin with the first colour again."""

WIDTH, LEFT, RIGHT, TOP, BOTTOM = 560, 60, 18, 14, 46

LETTER = 8.4
"""Room of a letter on a small screen, where the style sheet makes texts larger, so that they stay apart there too."""


class Points(NamedTuple):
    """One model's values.

    Args:
        name: for the legend. values: None where nothing was measured. low, high: their intervals, or empty.
    """

    name: str
    values: Sequence[float | None]
    low: Sequence[float | None] = ()
    high: Sequence[float | None] = ()


def colour(number: int) -> str:
    """The style of a model by its place."""
    return f"m{number % COLOURS}"


def intervals_plot(points: Sequence[Points], title: str) -> str:
    """One line a model: its value, and its interval as a bar; each `Points` holds one value."""
    known = [value for one in points for value in (*one.values, *one.low, *one.high) if value is not None]
    if not known:
        return _nothing()
    marks = round_numbers(min(known), max(known))
    names, row = max(len(one.name) for one in points), 26
    left, height = min(20 + names * LETTER, 220), TOP + row * len(points) + 34
    across = _scale(marks[0], marks[-1], left, WIDTH - RIGHT)
    parts = [_svg(height, title)]
    for mark in marks:
        parts.append(_line("grid", across(mark), across(mark), TOP, height - 30))
        parts.append(_text("tick", across(mark), height - 12, f"{mark:.4g}"))
    for place, one in enumerate(points):
        y = TOP + row * (place + 0.5)
        parts.append(_text("value", left - 8, y + 4, _cut(one.name, left), "end"))
        parts.append(_with_interval(place, one, 0, y, across, across=True))
    return "".join([*parts, "</svg>"])


def groups_plot(names: Sequence[str], points: Sequence[Points], title: str, x_name: str) -> str:
    """One place a group, one dot a model and group with its interval; dots of a model are joined by a line."""
    known = [value for one in points for value in (*one.values, *one.high) if value is not None]
    if not known:
        return _nothing()
    height, marks = 250, round_numbers(0.0, max(known))
    down = _scale(marks[-1], marks[0], TOP, height - BOTTOM)
    room = (WIDTH - LEFT - RIGHT) / len(names)
    parts = [_svg(height, title)]
    for mark in marks:
        parts.append(_line("grid", LEFT, WIDTH - RIGHT, down(mark), down(mark)))
        parts.append(_text("tick", LEFT - 8, down(mark) + 4, f"{mark:.4g}", "end"))
    every = math.ceil((max(len(name) for name in names) + 1) * LETTER / room)
    for place, name in enumerate(names):
        if place % every == 0:
            shown = _cut(name, max(room * every, 90))
            parts.append(_text("tick", LEFT + room * (place + 0.5), height - BOTTOM + 17, shown))
    parts.append(_text("tick", (LEFT + WIDTH - RIGHT) / 2, height - 6, x_name))
    step = min(9.0, room * 0.7 / len(points))
    for number, one in enumerate(points):
        shift = step * (number - (len(points) - 1) / 2)

        def across(place: float, shift: float = shift) -> float:
            return LEFT + room * (place + 0.5) + shift

        joined = " ".join(f"{across(at):.1f},{down(v):.1f}" for at, v in enumerate(one.values) if v is not None)
        parts.append(f'<polyline class="{colour(number)}" points="{joined}"/>')
        for place in range(len(names)):
            parts.append(_with_interval(number, one, place, across(place), down, across=False))
    return "".join([*parts, "</svg>"])


def scatter_plot(points: Sequence[tuple[str, float, float]], title: str, x_name: str) -> str:
    """A named dot a model; the horizontal axis is logarithmic.

    Args:
        points: name, x above 0, and y of each model.
    """
    if not points:
        return _nothing()
    height, marks = 280, round_numbers(min(y for _, _, y in points), max(y for _, _, y in points))
    powers = [math.log10(x) for _, x, _ in points]
    first, last = math.floor(min(powers)), math.ceil(max(powers) + 1e-9)
    across, down = _scale(first, last, LEFT, WIDTH - RIGHT - 20), _scale(marks[-1], marks[0], TOP, height - BOTTOM)
    parts = [_svg(height, title)]
    for mark in marks:
        parts.append(_line("grid", LEFT, WIDTH - RIGHT, down(mark), down(mark)))
        parts.append(_text("tick", LEFT - 8, down(mark) + 4, f"{mark:.4g}", "end"))
    for power in range(first, last + 1):
        parts.append(_line("grid", across(power), across(power), TOP, height - BOTTOM))
        parts.append(
            _text(
                "tick", across(power), height - BOTTOM + 17, amount(10.0**power) if power > 3 else f"{10.0**power:,.6g}"
            )
        )
    parts.append(_text("tick", (LEFT + WIDTH - RIGHT) / 2, height - 6, x_name))
    for number, ((name, _, y), exponent) in enumerate(zip(points, powers, strict=True)):
        at, end = across(exponent), across(exponent) > WIDTH * 0.6
        parts.append(_dot(number, at, down(y), f"{name}: {y:.4f}", 6))
        parts.append(_text("value", at + (-10 if end else 10), down(y) + 4, name, "end" if end else "start"))
    return "".join([*parts, "</svg>"])


def calibration_plot(curves: Sequence[tuple[str, Sequence[float], Sequence[float]]], title: str) -> str:
    """How often items of a stated probability were taken, on logarithmic axes; the dashed line is where that holds.

    Args:
        curves: of each model its name, the mean stated probabilities and the shares that were taken, above 0.
    """
    known = [value for _, stated, taken in curves for value in (*stated, *taken) if value > 0]
    if not known:
        return _nothing()
    height = 300
    first, last = math.floor(math.log10(min(known))), 0
    across, down = _scale(first, last, LEFT, WIDTH - RIGHT - 8), _scale(last, first, TOP, height - BOTTOM)
    parts = [_svg(height, title)]
    for power in range(first, last + 1):
        label = f"{10.0**power * 100:.6g}%"
        parts.append(_line("grid", LEFT, WIDTH - RIGHT, down(power), down(power)))
        parts.append(_line("grid", across(power), across(power), TOP, height - BOTTOM))
        parts.append(_text("tick", LEFT - 8, down(power) + 4, label, "end"))
        parts.append(_text("tick", across(power), height - BOTTOM + 17, label))
    parts.append(_line("even", across(first), across(last), down(first), down(last)))
    parts.append(_text("tick", (LEFT + WIDTH - RIGHT) / 2, height - 6, "stated probability"))
    for number, (name, stated, taken) in enumerate(curves):
        both = [(math.log10(p), math.log10(q)) for p, q in zip(stated, taken, strict=True) if p > 0 and q > 0]
        joined = " ".join(f"{across(p):.1f},{down(q):.1f}" for p, q in both)
        parts.append(f'<polyline class="{colour(number)}" points="{joined}"/>')
        parts += [
            _dot(number, across(p), down(q), f"{name}: {10**p:.2%} stated, {10**q:.2%} taken", 4) for p, q in both
        ]
    return "".join([*parts, "</svg>"])


def legend(names: Sequence[str | None]) -> str:
    """Which colour is which model; None where one is not drawn."""
    shown = [(number, name) for number, name in enumerate(names) if name is not None]
    items = "".join(f'<li class="{colour(number)}">{escape(name)}</li>' for number, name in shown)
    return f'<ul class="legend">{items}</ul>'


def _with_interval(
    number: int, one: Points, place: int, at: float, scale: Callable[[float], float], across: bool
) -> str:
    """A dot, and a line from its low to its high.

    Args:
        at: where it stands on the axis that says nothing. scale: of the values. across: whether these go to the right.
    """
    value = one.values[place]
    if value is None:
        return ""
    text, drawn = f"{one.name}: {value:.4f}", ""
    if one.low and (low := one.low[place]) is not None and (high := one.high[place]) is not None:
        text += f" [{low:.4f}, {high:.4f}]"
        ends = (scale(low), scale(high))
        drawn = _line(f"whisker {colour(number)}", *((*ends, at, at) if across else (at, at, *ends)))
    return drawn + _dot(number, *((scale(value), at) if across else (at, scale(value))), text, 4.5)


def _scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    """Places between `start` and `end` for numbers between `low` and `high`."""
    return lambda value: start + (value - low) / ((high - low) or 1.0) * (end - start)


def _svg(height: float, title: str) -> str:
    return f'<svg class="chart" viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(title)}">'


def _line(style: str, x1: float, x2: float, y1: float, y2: float) -> str:
    return f'<line class="{style}" x1="{x1:.1f}" x2="{x2:.1f}" y1="{y1:.1f}" y2="{y2:.1f}"/>'


def _text(style: str, x: float, y: float, text: str, anchor: str = "middle") -> str:
    return f'<text class="{style}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _dot(number: int, x: float, y: float, text: str, radius: float) -> str:
    place = f'cx="{x:.1f}" cy="{y:.1f}" r="{radius}"'
    return f'<circle class="{colour(number)}" {place}><title>{escape(text)}</title></circle>'


def _cut(text: str, room: float) -> str:
    """The text, shortened to about so much room."""
    letters = max(int(room / LETTER), 4)
    return text if len(text) <= letters else f"{text[: letters - 1]}\u2026"


def _nothing() -> str:
    return '<p class="none">Nothing was measured here.</p>'
