"""Two raw tables become a clean catalog and sorted interactions: the checks that all sources share."""

from __future__ import annotations

import logging
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt
from pydantic import PositiveInt

from llmrec.component import Component
from llmrec.data.catalog import Catalog
from llmrec.data.interactions import Interactions
from llmrec.data.text import clean, fill_titles
from llmrec.errors import DataError
from llmrec.sources.base import Dataset
from llmrec.sources.columns import TIMES, TITLES, Columns, as_ids, as_ratings, as_texts, as_times, find, find_first

logger = logging.getLogger(__name__)


class Checks(Component):
    """The settings that all sources share.

    Args:
        repeats: `keep` leaves a user's repeated events with an item, `drop_later` leaves only the first.
        unknown_items: what to do with events on items that are not in the items table; `drop` logs how many.
        max_chars: the longest text kept of one field, in characters.
        max_raw_bytes: a longer raw text is refused.
    """

    repeats: Literal["keep", "drop_later"] = "keep"
    unknown_items: Literal["error", "drop"] = "error"
    max_chars: PositiveInt = 500
    max_raw_bytes: PositiveInt = 1_000_000


def assemble(
    interactions: pa.Table,
    items: pa.Table,
    columns: Columns,
    checks: Checks,
    where: tuple[str, str] = ("interactions", "items"),
) -> Dataset:
    """Clean and check both tables.

    Args:
        interactions: the raw events.
        items: the raw items.
        columns: what the columns of both are called.
        checks: how strict to be.
        where: the names of the two tables in messages, such as their paths.

    Raises:
        DataError: with table, row, column and what to do.
    """
    catalog = clean_catalog(items, columns, checks, where[1])
    events = _interactions(interactions, catalog, columns, checks, where[0])
    return Dataset(catalog, events if checks.repeats == "keep" else events.without_repeats())


def clean_catalog(items: pa.Table, columns: Columns, checks: Checks, where: str) -> Catalog:
    """The items alone, cleaned and checked; see `assemble`."""
    if items.num_rows == 0:
        raise DataError("the table of items is empty.", where=where, fix="Give every item one row.")
    id_name = columns.catalog_item or columns.item
    title_name = find_first(items, columns.title, TITLES, "title", where)

    def cleaned(name: str, column: pa.ChunkedArray) -> pa.ChunkedArray:
        return clean(column, checks.max_chars, checks.max_raw_bytes, where, name)

    ids = as_ids(find(items, id_name, "catalog_item", where), id_name, where)
    titles = cleaned(title_name, _titles(find(items, title_name, "title", where), title_name, where))
    taken = {id_name, title_name, "item_id", "title"}
    texts, others = {}, {}
    for name in [n for n in columns.keep or items.column_names if n not in taken]:
        column = find(items, name, "keep", where)
        if (text := as_texts(column)) is not None:
            texts[name] = cleaned(name, text)
        elif pt.is_nested(column.type) or pt.is_binary(column.type) or pt.is_large_binary(column.type):
            logger.warning("%s: column '%s' of type %s is no text; it is left out", where, name, column.type)
        else:
            others[name] = column
    if untitled := pc.sum(pc.equal(titles, "")).as_py():
        logger.warning("%s: %d items have no title; one is made of their other texts", where, untitled)
        titles = fill_titles(titles, texts)
    table = pa.table({"item_id": ids, "title": titles} | texts | others)
    return Catalog(_without_duplicates(table, where))


def _titles(column: pa.ChunkedArray, name: str, where: str) -> pa.ChunkedArray:
    if (texts := as_texts(column)) is not None:
        return texts
    if pt.is_primitive(column.type):  # a film called 1984
        return column.cast(pa.string())
    raise DataError(f"the titles are of type {column.type}.", where=where, column=name, fix="Use a column of text.")


def _without_duplicates(table: pa.Table, where: str) -> pa.Table:
    """One row an item: repeated rows that say the same are merged, others are an error."""
    unique = pc.unique(table["item_id"])
    if len(unique) == table.num_rows:
        return table
    items = pc.index_in(table["item_id"], value_set=unique).to_numpy()
    first_rows = np.unique(items, return_index=True)[1]  # items are numbered by first appearance, so this ascends
    later = np.setdiff1d(np.arange(table.num_rows), first_rows)
    earlier = first_rows[items[later]]
    for name in table.column_names[1:]:
        values = pc.dictionary_encode(table[name].combine_chunks(), null_encoding="encode").indices.to_numpy()
        if (differ := np.flatnonzero(values[earlier] != values[later])).size:
            one, two = int(earlier[differ[0]]), int(later[differ[0]])
            raise DataError(
                f"item '{table['item_id'][two].as_py()}' has two rows that disagree: row {one} says "
                f"{table[name][one].as_py()!r}, row {two} says {table[name][two].as_py()!r}.",
                where=where,
                row=two,
                column=name,
                fix="Keep one row an item.",
            )
    logger.warning("%s: %d repeated rows of the same items are merged", where, len(later))
    return table.take(pa.array(first_rows))


def _interactions(events: pa.Table, catalog: Catalog, columns: Columns, checks: Checks, where: str) -> Interactions:
    if events.num_rows == 0:
        raise DataError("the table of interactions is empty.", where=where, fix="Give at least one event.")
    time_name = find_first(events, columns.time, TIMES, "time", where)
    users = as_ids(find(events, columns.user, "user", where), columns.user, where)
    items = as_ids(find(events, columns.item, "item", where), columns.item, where)
    times = as_times(find(events, time_name, "time", where), time_name, where)
    rating_name = columns.rating or ("rating" if "rating" in events.column_names else None)
    ratings = as_ratings(find(events, rating_name, "rating", where), rating_name, where) if rating_name else None
    known = catalog.items.rows(items) >= 0
    if unknown := int((~known).sum()):
        if checks.unknown_items == "error" or unknown == len(known):
            row = int(np.argmin(known))
            raise DataError(
                f"item '{items[row].as_py()}' has no row in the items table, whose first item is '{catalog.items[0]}' "
                f"({unknown} of {len(known)} events are on such items).",
                where=where,
                row=row,
                column=columns.item,
                fix="Give every item a row, or set unknown_items: drop to leave out the events on unknown items.",
            )
        logger.warning("%s: %d of %d events are on unknown items and are left out", where, unknown, len(known))
        mask = pa.array(known)
        users, items, times = users.filter(mask), items.filter(mask), times[known]
        ratings = None if ratings is None else ratings[known]
    return Interactions.from_columns(users, items, times, catalog.items, ratings, where)
