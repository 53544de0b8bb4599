"""What sources of published raw files share: events as a stream, the k-core, and only the items that are in it.

Such files hold tens of millions of reviews and every item of a shop. Events are read as two codes, a time and a rating
(24 bytes each), beside the ids of all users and items once; the k-core is taken on the codes, and only then records of
items are read, of which those in the core are kept.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import PositiveInt

from llmrec.data.catalog import Catalog
from llmrec.data.interactions import Interactions
from llmrec.data.split import k_core
from llmrec.errors import DataError
from llmrec.sources.assemble import Checks, assemble
from llmrec.sources.base import Dataset
from llmrec.sources.columns import Columns, as_times
from llmrec.sources.files import digest
from llmrec.sources.json_lines import iter_records

logger = logging.getLogger(__name__)

EVENT = ("user_id", "item_id", "timestamp", "rating")
"""The columns of an event; the last may be missing."""


class RawSource(Checks):
    """Raw files of reviews and of items.

    Args:
        root: the folder that holds them.
        core: users and items with fewer events are left out, again and again until all have as many; 1 keeps all.
        repeats, unknown_items: as in `Checks`; here a user's first event with an item counts, and events on items
            without a record are left out, for these files have both.
    """

    root: Path
    core: PositiveInt = 5
    repeats: Literal["keep", "drop_later"] = "drop_later"
    unknown_items: Literal["error", "drop"] = "drop"

    def files(self) -> tuple[Path, Path]:
        """The file of the events and that of the items.

        Raises:
            DataError: one is not there.
        """
        raise NotImplementedError

    def events(self, path: Path) -> Iterator[pa.RecordBatch]:
        """The columns of `EVENT`, null where a line lacks one; ids as text, times as `as_times` takes them."""
        raise NotImplementedError

    def item(self, record: dict[str, Any]) -> dict[str, str | None]:
        """Of a record of the other file: `item_id`, `title`, and further texts."""
        raise NotImplementedError

    def load(self) -> Dataset:
        """Read both files, keep the k-core.

        Raises:
            DataError: a file is missing or damaged, or nothing is left.
        """
        of_events, of_items = self.files()
        events = core_events(self.events(of_events), self.core, str(of_events))
        wanted, found = set(events["item_id"].unique().to_pylist()), dict[str, dict[str, str | None]]()
        for record in iter_records(of_items):
            row = self.item(record)
            if (item := row["item_id"]) in wanted:
                found.setdefault(str(item), row)  # some items are described twice; the first counts
        if not found:
            raise DataError(
                f"none of the {len(wanted)} items that were taken is described here.",
                where=str(of_items),
                fix="Give the files of one data set.",
            )
        names = list(next(iter(found.values())))
        items = pa.table({name: pa.array([row[name] for row in found.values()], pa.string()) for name in names})
        data = assemble(events, items, Columns(), self, (str(of_events), str(of_items)))
        return only_core(data, self.core)

    def fingerprint(self) -> str:
        """SHA-256 over the contents of both files."""
        return digest(self.files())


def core_events(batches: Iterator[pa.RecordBatch], core: int, where: str) -> pa.Table:
    """The events of the k-core.

    Args:
        batches: columns of `EVENT`. core: fewest events of a user, and of an item. where: the file, for messages.

    Raises:
        DataError: nothing is left.
    """
    parts, incomplete = [], 0
    for batch in batches:
        table = pa.Table.from_batches([batch])
        whole = table.filter(pc.invert(pc.or_(pc.or_(_lacks(table, 0), _lacks(table, 1)), _lacks(table, 2))))
        incomplete += len(table) - len(whole)
        if len(whole):
            ids = {name: whole[name].dictionary_encode() for name in EVENT[:2]}
            times = {EVENT[2]: as_times(whole[EVENT[2]], EVENT[2], where)}
            rest = {name: whole[name] for name in EVENT[3:] if name in whole.column_names}
            parts.append(pa.table({**ids, **times, **rest}))
    if incomplete:
        logger.warning("%s: %d lines lack user, item or time and are left out", where, incomplete)
    if not parts:
        raise DataError("there is no event.", where=where, fix="Give the file of the reviews.")
    events = pa.concat_tables(parts).unify_dictionaries().combine_chunks()
    users, items = (events[name].chunk(0).indices.to_numpy() for name in EVENT[:2])
    keep = core_mask(users, items, core)
    if not keep.any():
        raise DataError(
            f"no user is left with {core} events on items with {core} events.", where=where, fix="Lower data.core."
        )
    return events.filter(pa.array(keep))


def core_mask(users: NDArray[np.int32], items: NDArray[np.int32], core: int) -> NDArray[np.bool_]:
    """`bool[E]`: the events of the k-core.

    Args:
        users, items: `int32[E]`, codes.
    """
    keep = np.ones(len(users), bool)
    while True:
        enough = keep.copy()
        for codes in (users, items):
            enough &= (np.bincount(codes[keep], minlength=codes.max() + 1) >= core)[codes]
        if enough.sum() == keep.sum():
            return keep
        keep = enough


def only_core(data: Dataset, core: int) -> Dataset:
    """The k-core once more, now that repeats and unknown items are gone, and a catalog of its items alone."""
    kept = k_core(data.interactions, core, core)
    used = np.unique(kept.item_rows)
    catalog = Catalog(data.catalog.table.take(pa.array(used)))
    rows = pa.array(np.searchsorted(used, kept.item_rows).astype(np.int32))
    table = kept.table.set_column(kept.table.column_names.index("item"), "item", rows)
    return Dataset(catalog, Interactions(kept.users, catalog.items, table, kept.offsets))


def text(value: Any) -> str | None:
    """A field as one text: lists, also of lists, joined by commas, each part once; None for what is no text."""
    return ", ".join(dict.fromkeys(_texts(value))) or None


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str) and value:
        yield value
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _texts(part)


def _lacks(table: pa.Table, column: int) -> pa.ChunkedArray:
    values = table[EVENT[column]]
    return pc.or_(values.is_null(), pc.equal(values, "")) if pa.types.is_string(values.type) else values.is_null()
