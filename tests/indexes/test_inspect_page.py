"""The page: one file, with every item, in which nothing from outside becomes markup."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from contracts.index_cases import catalog_of

from llmrec.data.catalog import Catalog
from llmrec.indexes.base import END, ItemIndex
from llmrec.indexes.inspect import inspect
from llmrec.indexes.inspect_page import render_page, tree_data
from llmrec.pages.charts import Series, bar_chart, line_chart, round_numbers, usage_chart
from llmrec.pages.render import script_json

HOSTILE = "</script><img src=x onerror=alert(1)><!--<script>\u2028\"'&amp;`"
VOID = {"meta", "input", "img"}


class Page(HTMLParser):
    """What a browser would make of it: elements, attributes, texts; refuses elements that are not closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.texts: dict[str, list[str]] = {}
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.setdefault(self.open[-1] if self.open else "", []).append(data)

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.elements)

    @property
    def tree(self) -> Any:
        return json.loads(self.texts["script"][0])


def index_of(codes: list[list[int]], sizes: tuple[int, ...], **provenance: Any) -> ItemIndex:
    return ItemIndex(np.array(codes, np.int32), sizes, provenance)


def page_of(index: ItemIndex, catalog: Catalog | None = None, **limits: int) -> str:
    return render_page(inspect(index, catalog), index, catalog, **limits)


def grid(sizes: tuple[int, ...]) -> ItemIndex:
    """Every code once."""
    return ItemIndex(np.stack(np.unravel_index(np.arange(np.prod(sizes)), sizes), axis=1).astype(np.int32), sizes)


def test_every_title_is_there_in_the_order_of_the_tree() -> None:
    codes = [[1, 0], [0, 1], [1, 1], [0, 0]]
    titles = ["Stift \u00e4\u00f6", "\u30da\u30f3", "Lamp", "Desk"]
    catalog = Catalog(pa.table({"item_id": list("wxyz"), "title": titles, "category": ["p", "p", "q", "q"]}))
    text = page_of(index_of(codes, (2, 2), kind="rqkmeans"), catalog)
    assert all(title in text for title in titles)
    tree = Page(text).tree
    assert [item[:3] for item in tree["items"]] == [
        [[0, 0], "Desk", "z"],
        [[0, 1], "\u30da\u30f3", "x"],
        [[1, 0], "Stift \u00e4\u00f6", "w"],
        [[1, 1], "Lamp", "y"],
    ]
    assert [tree["categories"][item[3]] for item in tree["items"]] == ["q", "p", "p", "q"]
    assert (tree["letters"], tree["pieces"], tree["whole"], tree["totals"]) == (["a", "b"], None, 0, {})


def test_nothing_from_outside_becomes_markup() -> None:
    settings = {"encoder": HOSTILE}
    index = index_of([[0, 0], [0, 1], [1, 0], [1, 1]], (2, 2), kind=HOSTILE, settings=settings, losses=[{"loss": 1}])
    texts = [HOSTILE, HOSTILE, "Pen", "Pen"]
    catalog = Catalog(pa.table({"item_id": [HOSTILE, *"abc"], "title": texts, HOSTILE: texts}))
    text = render_page(inspect(index, catalog, category=HOSTILE), index, catalog)
    plain = catalog_of(4, category=["p", "p", "q", "q"])
    harmless = page_of(index_of([[0, 0], [0, 1], [1, 0], [1, 1]], (2, 2), losses=[{"loss": 1}]), plain)
    page = Page(text)
    assert [tag for tag, _ in page.elements] == [tag for tag, _ in Page(harmless).elements]
    assert page.count("script") == 2
    assert page.count("img") == 0
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    shown = HOSTILE.replace("\u2028", " ")  # a title is one line
    assert [page.tree["items"][0][1], page.tree["items"][0][2]] == [shown, shown]
    assert "<!--" not in text
    assert page.texts["h1"][0] == "".join(filter(str.isprintable, HOSTILE))
    assert json.loads(page.texts["pre"][0]) == settings


def test_json_in_a_script_cannot_end_it() -> None:
    text = script_json({"a": [HOSTILE]})
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text) == {"a": [HOSTILE]}


def test_the_page_asks_for_no_other_file_and_runs_its_own_script_alone() -> None:
    page = Page(page_of(grid((3, 3)), catalog_of(9)))
    assert not any({"src", "href", "action", "style"} & set(attributes) for _, attributes in page.elements)
    assert "url(" not in page.texts["style"][0]
    assert "@import" not in page.texts["style"][0]
    (policy,) = [a["content"] for tag, a in page.elements if tag == "meta" and "http-equiv" in a]
    assert policy is not None
    digest = base64.b64encode(hashlib.sha256(page.texts["script"][1].encode()).digest()).decode()
    assert "default-src 'none'" in policy
    assert re.findall(r"script-src ([^;]*)", policy) == [f"'sha256-{digest}'"]


def test_the_script_makes_no_markup_of_texts() -> None:
    script = Page(page_of(grid((2,)))).texts["script"][1]
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", script)


def test_both_colour_schemes_have_every_colour() -> None:
    style = Page(page_of(grid((2,)))).texts["style"][0]
    light, dark = (set(re.findall(r"(--\w+):", block)) for block in re.findall(r":root \{(.*?)\}", style, re.DOTALL))
    assert light == dark
    assert set(re.findall(r"var\((--\w+)\)", style)) == light


def test_of_a_large_index_whole_branches_are_shown() -> None:
    index = grid((4, 5, 6))  # 30 items a first number, 6 a first two
    tree = tree_data(index, most_items=70)
    assert tree["whole"] == 2  # branches of 6 are small beside 70, branches of 30 are not
    assert len(tree["items"]) == 66
    branches: dict[tuple[int, ...], int] = {}
    for code, *_ in tree["items"]:
        branches[tuple(code[:2])] = branches.get(tuple(code[:2]), 0) + 1
    assert set(branches.values()) == {6}
    assert tree["totals"] == {str(first): 30 for first in {code[0] for code, *_ in tree["items"]}}
    assert tree == tree_data(index, most_items=70)
    text = page_of(index, most_items=70)
    assert "66 of 120 items" in text
    assert "whole branches" in text
    assert "All 120 items" in page_of(index)


def test_a_flat_index_is_cut_too() -> None:
    tree = tree_data(grid((50,)), most_items=20)
    assert (len(tree["items"]), tree["whole"], tree["totals"]) == (20, 1, {})


def test_without_a_catalog_items_have_their_row_numbers() -> None:
    text = page_of(index_of([[1], [0]], (2,)))
    assert [item[1] for item in Page(text).tree["items"]] == ["item 1", "item 0"]
    assert "Without a catalog" in text
    assert "Without a catalog" not in page_of(index_of([[1], [0]], (2,)), catalog_of(2))


def test_only_categories_that_are_shown_are_written() -> None:
    kinds = [f"kind {row // 2}" for row in range(50)]
    tree = tree_data(grid((25, 2)), catalog_of(50, category=kinds), "category", most_items=20)
    assert len(tree["items"]) == 20
    assert {tree["categories"][item[3]] for item in tree["items"]} == set(tree["categories"])
    assert all(tree["categories"][item[3]] == f"kind {item[0][0]}" for item in tree["items"])


def test_a_title_index_is_written_in_its_pieces() -> None:
    pieces = ("Pen", "\u0120red", "<img>", "<|item_end|>")
    codes = np.array([[0, 3, END], [0, 1, 3], [2, 1, 3]], np.int32)
    index = ItemIndex(codes, (4, 4, 4), {"kind": "title"}, pieces=pieces)
    text = page_of(index, catalog_of(3))
    page = Page(text)
    assert page.tree["pieces"] == list(pieces)
    assert [item[0] for item in page.tree["items"]] == [[0, 1, 3], [0, 3], [2, 1, 3]]
    assert page.count("img") == 0
    assert "2 to 3" in text


def test_long_titles_are_cut_and_half_characters_do_not_stop_the_page() -> None:
    index = index_of([[0], [1]], (2,), settings={"a": "\ud800"})
    catalog = Catalog(pa.table({"item_id": ["a", "b"], "title": ["x" * 500, None]}))
    text = page_of(index, catalog)
    text.encode()
    assert [len(item[1]) for item in Page(text).tree["items"]] == [201, 0]


def test_losses_are_drawn_where_a_training_recorded_them() -> None:
    losses = [{"step": 10, "loss": 2.0, "reconstruction": 1.0}, {"step": 20, "loss": 1.0, "reconstruction": 0.5}]
    with_losses = Page(page_of(index_of([[0], [1]], (2,), losses=losses)))
    assert with_losses.count("polyline") == 2
    assert Page(page_of(index_of([[0], [1]], (2,)))).count("polyline") == 0


def test_a_chart_of_code_use_has_a_bar_a_used_code() -> None:
    page = Page(usage_chart(np.array([1, 0, 4, 3])))
    bars = [attributes for tag, attributes in page.elements if tag == "rect"]
    assert [float(bar["height"] or 0) for bar in bars] == [96.0, 72.0, 24.0]
    (even,) = [attributes for tag, attributes in page.elements if tag == "line"]
    assert float(even["y1"] or 0) == 48.0  # 2 items a code is half of 4
    many = Page(usage_chart(np.ones(10_000, np.int64)))
    assert 0 < many.count("rect") <= 200


def test_bars_are_as_high_as_their_values() -> None:
    series = [Series("here", "first", [0.6, None], ["60%", ""]), Series("<b>", "chance", [0.3, 0.15])]
    page = Page(bar_chart(["1", "2"], series, 'a "title"', "depth"))
    heights = [float(attributes["height"] or 0) for tag, attributes in page.elements if tag == "rect"]
    assert heights == [180.0, 90.0, 45.0]
    assert page.texts["li"] == ["here", "<b>"]
    assert "Nothing was measured" in bar_chart(["1"], [Series("here", "first", [None])], "", "")


def test_a_line_goes_through_its_points() -> None:
    page = Page(line_chart([0, 50, 100], [Series("loss", "first", [1.0, 0.5, 0.0])], "loss", "step"))
    (line,) = [attributes["points"] for tag, attributes in page.elements if tag == "polyline"]
    assert line == "48.0,20.0 293.0,110.0 538.0,200.0"


def test_values_that_differ_a_hundredfold_stand_on_a_logarithmic_axis() -> None:
    page = Page(line_chart([0, 50, 100], [Series("loss", "first", [1.0, 0.1, 0.01])], "loss", "step"))
    (line,) = [attributes["points"] for tag, attributes in page.elements if tag == "polyline"]
    assert line == "48.0,20.0 293.0,110.0 538.0,200.0"
    assert page.texts["text"][:3] == ["0.01", "0.1", "1"]


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 0.52, [0, 0.2, 0.4, 0.6]),
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (0, 0, [0, 0.2]),
        (7, 7, [0, 2, 4, 6, 8]),
        (-3, 12, [-5, 0, 5, 10, 15]),
    ],
)
def test_axes_have_round_numbers(low: float, high: float, expected: list[float]) -> None:
    assert round_numbers(low, high) == pytest.approx(expected)
