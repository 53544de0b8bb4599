"""A catalog gives titles, records and texts by item row."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from llmrec.data.catalog import Catalog
from llmrec.errors import DataError

CATALOG = Catalog(
    pa.table({"item_id": ["x", "y"], "title": ["Pen", "Tape"], "brand": ["Bic", ""], "price": [1.5, None]})
)


def test_by_row() -> None:
    assert CATALOG.items.row("y") == 1
    assert CATALOG.title(1) == "Tape"
    assert CATALOG.record(0) == {"item_id": "x", "title": "Pen", "brand": "Bic", "price": 1.5}
    assert CATALOG.take(np.array([1, 0])).table["title"].to_pylist() == ["Tape", "Pen"]


def test_texts_skip_what_is_empty() -> None:
    assert CATALOG.texts(("title", "brand", "price")) == ["Pen. Bic. 1.5", "Tape"]


def test_unknown_field_is_named() -> None:
    with pytest.raises(DataError, match=r"'brnad'.*Did you mean 'brand'"):
        CATALOG.texts(("brnad",))
    with pytest.raises(DataError, match="no column 'title'"):
        Catalog(pa.table({"item_id": ["x"]}))
