"""Negatives from an exposure log: items that were shown, or skipped, and not taken.

A shown item belongs to the user's next train event at or after the time of the showing: that is the choice which the
user made in its place. What was shown after a user's last train event belongs to a choice that training must not know,
and is left out; so a log of the whole time leaks nothing.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from llmrec.component import Component
from llmrec.errors import DataError
from llmrec.sources.files import digest, read_table, require, require_columns
from llmrec.tasks.negatives.base import Choices, Rows2D
from llmrec.types import Ragged, Rows

COLUMNS = ("user_id", "item_id", "timestamp")


class Exposures(Component):
    """Items that were shown before the choice and not taken.

    Args:
        path: a parquet, CSV or TSV file with `user_id`, `item_id` and `timestamp` (in the unit of the interactions).
            Users and items that the data lack are passed over.
        count: negatives of each choice; fewer where fewer were shown.
    """

    path: Path
    count: int = Field(3, ge=1)

    def draw(self, choices: Choices, rng: np.random.Generator) -> Rows2D:
        """See `Negatives.draw`.

        Raises:
            DataError: the log lacks a column, or a timestamp is no whole number.
        """
        shown = self._shown(choices)
        return choices.draw_from((shown[int(event)] for event in choices.events), self.count, rng)

    def fingerprint(self) -> str:
        """SHA-256 of the log."""
        return digest([require(self.path)])

    def _shown(self, choices: Choices) -> Ragged:
        """The shown items of every train event."""
        train, table = choices.train, read_table(self.path)
        require_columns(table.column_names, COLUMNS, str(self.path))
        try:
            times = np.asarray(table["timestamp"].to_numpy()).astype(np.int64)
        except (TypeError, ValueError) as error:
            raise DataError(
                f"a timestamp is no whole number ({error}).",
                where=str(self.path),
                column="timestamp",
                fix="Write times as whole numbers, in the unit of the interactions.",
            ) from None
        users, items = train.users.rows(table["user_id"]), train.items.rows(table["item_id"])
        known = (users >= 0) & (items >= 0)
        items, events = items[known], _next_events(choices, users[known], times[known])
        order = np.argsort(events, kind="stable")
        order = order[events[order] < len(train)]  # what is behind a user's last event is not for training
        return Ragged(items[order], np.searchsorted(events[order], np.arange(len(train) + 1)).astype(np.int64))


def _next_events(choices: Choices, users: Rows, times: NDArray[np.int64]) -> NDArray[np.int64]:
    """`int64[S]`: the user's first train event at or after each time; the number of events where there is none."""
    train = choices.train
    all_users = np.concatenate([users, train.user_rows])
    all_times = np.concatenate([times, train.table["time"].to_numpy()])
    is_event = np.repeat([False, True], [len(users), len(train)])
    order = np.lexsort((is_event, all_times, all_users))  # of equal times, what is shown stands before the event
    before = np.empty(len(order), np.int64)
    before[order] = np.cumsum(is_event[order])
    found = before[: len(users)]  # events are sorted by (user, time): so many stand before it, and the next is that one
    inside = found < len(train)
    found[inside] = np.where(train.user_rows[found[inside]] == users[inside], found[inside], len(train))
    return found
