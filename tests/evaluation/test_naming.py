"""Texts that name items which they must not are found out, whoever wrote them."""

from __future__ import annotations

import pyarrow as pa

from llmrec.data.catalog import Catalog
from llmrec.evaluation.naming import Names

TITLES = ["Pen", "Pen and Ink", "Volcano (1997)", "Twister", "Twister", "", "C++"]


def names() -> Names:
    return Names(Catalog(pa.table({"item_id": [f"i{row}" for row in range(len(TITLES))], "title": TITLES})))


def test_items_that_may_not_be_named_are_found() -> None:
    text = "“Volcano (1997)” fits because of “Twister”."
    assert names().foreign(text, [2, 3]) == []
    assert names().foreign(text, [3]) == [2]
    assert names().foreign(text, []) == [2, 3, 4]
    assert names().foreign("nothing is named here", []) == []


def test_of_items_with_one_title_one_is_enough() -> None:
    assert names().foreign("Twister", [4]) == []


def test_a_title_within_an_allowed_one_is_no_name_of_its_own() -> None:
    assert names().foreign("Take “Pen and Ink”.", [1]) == []
    assert names().foreign("Take “Pen and Ink” and a Pen.", [1]) == [0]
    assert names().foreign("Take “Pen and Ink”.", [0]) == [1]


def test_a_part_of_a_word_is_no_name() -> None:
    assert names().foreign("The Pencil and the openPen and Pens", []) == []
    assert names().foreign("C++: a book; (Pen)", []) == [0, 6]
