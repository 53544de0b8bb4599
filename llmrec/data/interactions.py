"""Who took what and when: Arrow columns sorted by user and time, with one offset per user."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from llmrec.data.vocabulary import Vocabulary
from llmrec.errors import DataError
from llmrec.types import Ragged, Rows


@dataclass(frozen=True)
class Interactions:
    """Events grouped by user, oldest first. Events with equal time keep the order of the input (the tie rule).

    Args:
        users: the external ids of the `U` users.
        items: the external ids of the `N` items, the same object as the catalog's.
        table: one row an event, sorted by (user, time): `item` int32, `time` int64 (a timestamp in the unit of the
            source, or a position), and `rating` float32 where the source has one.
        offsets: `int64[U + 1]`; the events of user `u` are `table[offsets[u]:offsets[u + 1]]`.
    """

    users: Vocabulary
    items: Vocabulary
    table: pa.Table
    offsets: NDArray[np.int64]

    @classmethod
    def from_columns(
        cls,
        user_ids: pa.Array | pa.ChunkedArray,
        item_ids: pa.Array | pa.ChunkedArray,
        times: NDArray[np.int64],
        items: Vocabulary,
        ratings: NDArray[np.float32] | None = None,
        where: str | None = None,
    ) -> Interactions:
        """Sort raw events by (user, time). Users get rows in order of first appearance.

        Args:
            user_ids, item_ids: `[E]` external ids. times: `int64[E]`. ratings: `float32[E]` or None.
            items: the catalog's items.
            where: the file, for messages.

        Raises:
            DataError: there is no event, or an item has no row in the catalog.
        """
        if len(user_ids) == 0:
            raise DataError("the table of interactions is empty.", where=where, fix="Give at least one event.")
        item_rows = items.rows(item_ids)
        if (unknown := np.flatnonzero(item_rows < 0)).size:
            row = int(unknown[0])
            raise DataError(
                f"item '{item_ids[row].as_py()}' has no row in the catalog ({unknown.size} such events).",
                where=where,
                row=row,
                column="item_id",
                fix="Add the item to the catalog, or set unknown_items: drop.",
            )
        user_ids = user_ids.cast(pa.string())
        users = Vocabulary(pc.unique(user_ids))
        user_rows = users.rows(user_ids)
        order = np.lexsort((times, user_rows))  # stable: ties keep the order of the input
        columns = {"item": item_rows[order], "time": np.asarray(times, np.int64)[order]}
        if ratings is not None:
            columns["rating"] = np.asarray(ratings, np.float32)[order]
        offsets = np.zeros(len(users) + 1, np.int64)
        np.cumsum(np.bincount(user_rows, minlength=len(users)), out=offsets[1:])
        return cls(users, items, pa.table(columns), offsets)

    def __len__(self) -> int:
        return self.table.num_rows

    @cached_property
    def item_rows(self) -> Rows:
        """`int32[E]`: the item of every event, in table order."""
        column = self.table["item"]
        return (column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()).to_numpy()  # one chunk: no copy

    @cached_property
    def user_rows(self) -> Rows:
        """`int32[E]`: the user of every event, in table order."""
        return np.repeat(np.arange(len(self.users), dtype=np.int32), np.diff(self.offsets))

    @property
    def histories(self) -> Ragged:
        """The item rows of each user, oldest first (zero-copy)."""
        return Ragged(self.item_rows, self.offsets)

    def history(self, user_row: int) -> Rows:
        """The item rows of one user, oldest first (a zero-copy slice)."""
        return self.histories[user_row]

    def filter(self, keep: NDArray[np.bool_]) -> Interactions:
        """The events where `keep` (`bool[E]`) is true; users left without an event stay, with an empty history."""
        offsets = np.concatenate([[0], np.cumsum(keep)])[self.offsets].astype(np.int64)
        return Interactions(self.users, self.items, self.table.filter(pa.array(keep)), offsets)

    def keep_users(self, keep: NDArray[np.bool_]) -> Interactions:
        """The users where `keep` (`bool[U]`) is true, with new user rows in the same order."""
        events = np.repeat(keep, np.diff(self.offsets))
        offsets = np.concatenate([[0], np.cumsum(np.diff(self.offsets)[keep])]).astype(np.int64)
        users = Vocabulary(self.users.ids.filter(pa.array(keep)))
        return Interactions(users, self.items, self.table.filter(pa.array(events)), offsets)

    def without_repeats(self) -> Interactions:
        """Only a user's first event with each item."""
        pairs = self.user_rows.astype(np.int64) * len(self.items) + self.item_rows
        keep = np.zeros(len(self), bool)
        keep[np.unique(pairs, return_index=True)[1]] = True
        return self.filter(keep)
