"""The catalog as it stands now: which items there are, and which of them are in stock.

A `Live` never changes. A change makes another one and puts it in the place of the old in one assignment; requests that
were accepted before keep the one that they began with.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from llmrec.data.catalog import Catalog
from llmrec.data.price import Limit, within
from llmrec.errors import LlmrecError
from llmrec.recommenders.base import Recommender
from llmrec.recommenders.llm import LLMRecommender
from llmrec.sources.table import items_from_frame
from llmrec.types import PreparedCandidates, Rows


class Allowed(NamedTuple):
    """Items that may be recommended to everybody who asks alike.

    Args:
        mask: `bool[N]`. shared: the same as `Recommender.recommend` takes it.
    """

    mask: NDArray[np.bool_]
    shared: PreparedCandidates


class Live:
    """One state of the catalog.

    Args:
        recommender: knows all items. in_stock: `bool[N]`. version: counts the changes, from 1.
        cached_filters: filters, with the prices beside them, whose items are kept.
    """

    def __init__(
        self, recommender: Recommender, in_stock: NDArray[np.bool_], version: int, cached_filters: int
    ) -> None:
        self.recommender, self.catalog = recommender, recommender.catalog
        self.in_stock, self.version, self.cached_filters = in_stock, version, cached_filters
        self._stock = None if in_stock.all() else self._allowed(in_stock)
        self._filtered = lru_cache(maxsize=cached_filters)(self._filter)

    @property
    def searches(self) -> bool:
        """Whether the model has learned to be asked in words."""
        return isinstance(self.recommender, LLMRecommender) and self.recommender.task.search is not None

    def allowed(self, filters: Mapping[str, Any] | None, price: tuple[Limit, ...] = ()) -> Allowed | None:
        """What the stock, a request's filters and bounds of the price leave; None where that is everything.

        Raises:
            DataError: a column is unknown, or is compared with a value of another type.
        """
        if not filters and not price:
            return self._stock
        return self._filtered(json.dumps(filters or {}, sort_keys=True), price)

    def rows(self, ids: Sequence[str]) -> tuple[Rows, list[str]]:
        """The rows of those items that the catalog has, in their order, and the ids that it lacks."""
        rows = np.array([self.catalog.items.row(name) for name in ids], np.int32)
        return rows[rows >= 0], [name for name, row in zip(ids, rows, strict=True) if row < 0]

    def code(self, row: int) -> str | None:
        """An item's code as people write it; None for recommenders without codes."""
        return self.recommender.task.items.tokens(row) if isinstance(self.recommender, LLMRecommender) else None

    def _filter(self, filters: str, price: tuple[Limit, ...]) -> Allowed:
        left = self.in_stock
        for condition in [json.loads(filters), *([within(price)] if price else [])]:
            fitting = np.zeros(len(self.catalog), bool)
            fitting[self.catalog.where(condition)] = True
            left = left & fitting
        return self._allowed(left)

    def _allowed(self, mask: NDArray[np.bool_]) -> Allowed:
        return Allowed(mask, self.recommender.prepare_candidates(np.flatnonzero(mask).astype(np.int32)))


class LiveCatalog:
    """Holds the `Live` of the moment.

    Args:
        recommender: with the items to begin with, all in stock.
    """

    def __init__(self, recommender: Recommender, cached_filters: int = 64) -> None:
        self.current = Live(recommender, np.ones(len(recommender.catalog), bool), 1, cached_filters)
        self._one_at_a_time = threading.Lock()

    def change(
        self, out_of_stock: Sequence[str] = (), in_stock: Sequence[str] = (), add: Sequence[Mapping[str, Any]] = ()
    ) -> tuple[Live, list[str]]:
        """Take items out of stock or back in, and add new ones, which are in stock.

        An id in both lists is in stock.

        Returns:
            The new state, and the ids that the catalog lacks (new items can be named, they are added first).

        Raises:
            DataError, RecipeError: the new items cannot be added; nothing has changed then.
        """
        with self._one_at_a_time:
            before = self.current
            recommender = _grown(before.recommender, add) if add else before.recommender
            stock = np.ones(len(recommender.catalog), bool)
            stock[: len(before.in_stock)] = before.in_stock
            items, unknown = recommender.catalog.items, []
            for ids, there in ((out_of_stock, False), (in_stock, True)):
                for name in ids:
                    row = items.row(name)
                    stock[row] = there if row >= 0 else stock[row]
                    unknown += [name] if row < 0 else []
            self.current = Live(recommender, stock, before.version + 1, before.cached_filters)
            return self.current, unknown


def _grown(recommender: Recommender, items: Sequence[Mapping[str, Any]]) -> Recommender:
    if not isinstance(recommender, LLMRecommender):
        raise LlmrecError(
            "only a language model that writes codes can recommend items that it has not been trained on; train this "
            "recommender again."
        )
    schema = recommender.catalog.table.schema
    columns = {name: [item.get(name) for item in items] for name in schema.names}
    if more := sorted({name for item in items for name in item} - set(schema.names)):
        raise LlmrecError(f"the catalog has no column '{more[0]}'; its columns are {', '.join(schema.names)}.")
    try:
        table = pa.table({name: pa.array(values, schema.field(name).type) for name, values in columns.items()})
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise LlmrecError(f"the new items do not fit the catalog's columns ({error}).") from None
    # Cleaned as at training; a source joins lists to one text, so where the catalog has lists, they stay as they are.
    lists = [name for name in schema.names if pa.types.is_list(schema.field(name).type)]
    cleaned = items_from_frame(table.drop_columns(lists), "add")
    if len(cleaned) < len(items):
        raise LlmrecError("an item is named twice among the new ones.")
    for name in lists:
        cleaned = Catalog(cleaned.table.append_column(schema.field(name), table[name]))
    return recommender.add_items(cleaned)
