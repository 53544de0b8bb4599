"""The page of `llmrec index inspect --html`: figures, charts, and all codes with their titles as a tree to browse.

One file without any other: it opens from disk and can be sent to somebody. Titles come from outside, so nothing of them
is ever read as markup. The template and the script escape them, and the page forbids every script but its own.
"""

from __future__ import annotations

import json
import string
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from llmrec.data.catalog import Catalog
from llmrec.indexes.base import ItemIndex
from llmrec.indexes.inspect import Inspection, categories
from llmrec.indexes.prefixes import prefix_groups
from llmrec.pages.charts import Series, bar_chart, line_chart, usage_chart
from llmrec.pages.render import one_line, render, script_json, share
from llmrec.types import Rows

MOST_ITEMS = 20_000
"""Items that the tree holds; of a larger index whole branches are drawn by chance."""

MOST_LEVELS = 8
"""Levels whose code use is drawn; a title index has dozens."""


def render_page(
    found: Inspection, index: ItemIndex, catalog: Catalog | None = None, most_items: int = MOST_ITEMS
) -> str:
    """The whole page.

    Args:
        found: the figures of this index. catalog: its items; without it the tree shows row numbers.
        most_items: see `MOST_ITEMS`.
    """
    tree = tree_data(index, catalog, found.category, most_items)
    return render(
        Path(__file__).with_suffix(".html.jinja"),
        found=found,
        charts={name: Markup(svg) for name, svg in _charts(found).items()},
        usage=[
            (_letter(level, index), found.levels[level], Markup(usage_chart(_counts(index, level))))
            for level in range(min(len(found.levels), MOST_LEVELS))
        ],
        letters=[_letter(level, index) for level in range(len(found.levels))],
        settings=json.dumps(found.settings, indent=2, ensure_ascii=False),
        tree=Markup(script_json(tree)),
        shown=len(tree["items"]),
        named=catalog is not None,
    )


def tree_data(
    index: ItemIndex, catalog: Catalog | None = None, category: str | None = None, most_items: int = MOST_ITEMS
) -> dict[str, Any]:
    """What the page's script makes the tree of. JSON values.

    Returns:
        `items`, in the order of the tree, each `[code, title, id, category]`; `letters` or `pieces`, in which codes are
        written; `categories`, their names, "" for none; `whole`, the depth from which on every branch is complete, 0
        when all items are here; `totals`, the items that the branches above have in truth, by their code as `12/201`.
    """
    groups = prefix_groups(index.codes)
    rows, whole = _chosen(groups, most_items)
    rows = rows[np.argsort(groups[-1][rows], kind="stable")]
    titles, ids = _texts(catalog, "title", rows), _texts(catalog, "item_id", rows)
    kinds, names = np.zeros(len(rows), np.int64), [""]
    if catalog is not None and category:
        numbers, every = categories(catalog, category)
        used, kinds = np.unique(numbers[rows], return_inverse=True)
        names = ["" if number < 0 else one_line(every[number]) for number in used.tolist()]
    return {
        "letters": [_letter(level, index) for level in range(len(index.level_sizes))],
        "pieces": None if index.pieces is None else list(index.pieces),
        "categories": names,
        "whole": whole,
        "totals": _totals(index, groups[: max(whole - 1, 0)], rows),
        "items": [
            [
                code[code >= 0].tolist(),
                titles[place] if titles else f"item {row}",
                ids[place] if ids else "",
                kind,
            ]
            for place, (row, code, kind) in enumerate(
                zip(rows.tolist(), index.codes[rows], kinds.tolist(), strict=True)
            )
        ],
    }


def _chosen(groups: list[NDArray[np.int32]], most: int) -> tuple[Rows, int]:
    """Item rows of whole branches, at most `most`, and the depth of those branches; all rows and 0 where they fit.

    The branches stand at the first depth where each is small beside `most`, so that several are shown, and are drawn
    by chance, the same ones each time.
    """
    count = len(groups[0])
    if count <= most:
        return np.arange(count, dtype=np.int32), 0
    sizes = [np.bincount(group) for group in groups]
    depth = next((d for d, size in enumerate(sizes) if size.max() <= most / 10), len(groups) - 1)
    order = np.random.default_rng(0).permutation(len(sizes[depth]))
    fits = np.cumsum(sizes[depth][order]) <= most
    kept = np.zeros(len(order), bool)
    kept[order[fits]] = True
    return np.flatnonzero(kept[groups[depth]]).astype(np.int32), depth + 1


def _totals(index: ItemIndex, groups: list[NDArray[np.int32]], rows: Rows) -> dict[str, int]:
    """Items of every branch above the drawn ones that is shown in part."""
    totals = {}
    for depth, group in enumerate(groups, start=1):
        sizes = np.bincount(group)
        shown, first = np.unique(group[rows], return_index=True)
        for branch, row in zip(shown.tolist(), rows[first], strict=True):
            totals["/".join(map(str, index.codes[row, :depth].tolist()))] = int(sizes[branch])
    return totals


def _texts(catalog: Catalog | None, column: str, rows: Rows) -> list[str]:
    if catalog is None:
        return []
    return [one_line(text) for text in catalog.table[column].take(rows).to_pylist()]


def _letter(level: int, index: ItemIndex) -> str:
    """How a level's tokens begin: `a` for `<a_12>`; its number where letters have run out or codes are words."""
    letters = string.ascii_lowercase
    return letters[level] if index.pieces is None and level < len(letters) else str(level + 1)


def _counts(index: ItemIndex, level: int) -> NDArray[np.int64]:
    column = index.codes[:, level]
    return np.bincount(column[column >= 0], minlength=index.level_sizes[level])


def _charts(found: Inspection) -> dict[str, str]:
    levels = [str(level + 1) for level in range(len(found.levels))]
    even = [level.perplexity / level.size for level in found.levels]
    errors = [level.reconstruction_error for level in found.levels]
    depths = found.depths
    charts = {
        "perplexity": bar_chart(
            levels,
            [Series("perplexity / size", "first", even, [f"{level.perplexity:,.4g}" for level in found.levels])],
            "Perplexity of each level as a share of its size",
            "level",
        ),
        "reconstruction": bar_chart(
            levels,
            [Series("not described", "first", errors, [share(error) for error in errors])],
            "Share of the vectors that is not described after each level",
            "level",
        ),
    }
    for name, measured, chance in (
        ("purity", [d.purity for d in depths], [d.purity_chance for d in depths]),
        ("neighbours", [d.neighbours for d in depths], [d.neighbours_chance for d in depths]),
    ):
        series = [
            Series("this index", "first", measured, [share(value) for value in measured]),
            Series("random codes", "chance", chance, [share(value) for value in chance]),
        ]
        charts[name] = bar_chart(levels, series, f"{name} by depth, beside chance", "depth of the prefix")
    steps = [float(row.get("step", number)) for number, row in enumerate(found.losses)]
    styles = [("loss", "first"), ("reconstruction", "second")]
    curves = [
        Series(name, style, [row.get(name) for row in found.losses])
        for name, style in styles
        if any(name in row for row in found.losses)
    ]
    charts["losses"] = line_chart(steps, curves, "Losses of the training", "step") if curves else ""
    return charts
