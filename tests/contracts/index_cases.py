"""Small catalogs and histories for tests of indexes, and what holds for the codes of each."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from llmrec.data.catalog import Catalog
from llmrec.data.interactions import Interactions
from llmrec.indexes.base import END, ItemIndex


def catalog_of(count: int, **columns: list[str]) -> Catalog:
    """Items `i0`, `i1`, ... with further columns."""
    ids = [f"i{row}" for row in range(count)]
    return Catalog(pa.table({"item_id": ids, "title": ids, **columns}))


def histories_of(catalog: Catalog, histories: list[list[int]]) -> Interactions:
    """One user a history of item rows, oldest first."""
    users = pa.array([f"u{user}" for user, rows in enumerate(histories) for _ in rows])
    rows = np.array([row for history in histories for row in history])
    return Interactions.from_columns(users, catalog.items.ids.take(pa.array(rows)), np.arange(len(rows)), catalog.items)


def written(index: ItemIndex) -> list[tuple[int, ...]]:
    """The codes without what is behind their end."""
    return [tuple(code for code in row if code != END) for row in index.codes.tolist()]


def assert_codes_can_be_told_apart(index: ItemIndex) -> None:
    """No code equals or begins another one."""
    codes = set(written(index))
    assert len(codes) == len(index)
    assert not any(code[:length] in codes for code in codes for length in range(1, len(code)))
