"""Cut interactions into train, valid and test, without a leak.

Both splits follow the order of `Interactions`: by time, and events with equal time in input order. Train rows never
contain a validation or test target; the history of a test target may contain validation targets of the same user, as
in a live system.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llmrec.data.interactions import Interactions
from llmrec.errors import DataError
from llmrec.recipe import SplitRecipe
from llmrec.types import Ragged, Rows


@dataclass(frozen=True)
class Examples:
    """What an evaluation asks: after this history, did these items come next?

    Args:
        users: `int32[E]`, user rows. histories: `E` lists of item rows, oldest first.
        targets: `E` lists of item rows, none empty.
        gaps: `int64[E]`, time from the last item of the history to the (first) target, in the unit of the data's
            `time`; None where it is not known.
    """

    users: Rows
    histories: Ragged
    targets: Ragged
    gaps: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.users)

    def take(self, chosen: NDArray[np.int64]) -> Examples:
        """The examples at these positions."""
        return Examples(
            self.users[chosen],
            _slices(self.histories.values, self.histories.offsets[chosen], self.histories.offsets[chosen + 1]),
            _slices(self.targets.values, self.targets.offsets[chosen], self.targets.offsets[chosen + 1]),
            None if self.gaps is None else self.gaps[chosen],
        )

    def sample(self, size: int | None, seed: int) -> Examples:
        """At most `size` examples, drawn without replacement, in the original order."""
        if size is None or size >= len(self):
            return self
        return self.take(np.sort(np.random.default_rng(seed).choice(len(self), size, replace=False)))


def _slices(values: Rows, starts: NDArray[np.int64], stops: NDArray[np.int64]) -> Ragged:
    """`values[start:stop]` for each pair, one after another."""
    lengths = stops - starts
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    positions = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], lengths)
    return Ragged(values[positions], offsets)


def _gaps(interactions: Interactions, events: NDArray[np.int64]) -> NDArray[np.int64]:
    """Time since the event before; each of these has one of the same user."""
    times = interactions.table["time"].to_numpy()
    return times[events] - times[events - 1]


@dataclass(frozen=True)
class Split:
    """Train rows and two sets of questions; `protocol` says in words how they were cut."""

    train: Interactions
    valid: Examples
    test: Examples
    protocol: str


def k_core(interactions: Interactions, min_user_events: int = 1, min_item_events: int = 1) -> Interactions:
    """Drop users and items with too few events, again and again until all that is left has enough.

    The catalog keeps its rows: an item without events stays recommendable.

    Raises:
        DataError: nothing is left.
    """
    while True:
        item_counts = np.bincount(interactions.item_rows, minlength=len(interactions.items))
        events = item_counts[interactions.item_rows] >= min_item_events
        kept = interactions if events.all() else interactions.filter(events)
        users = np.diff(kept.offsets) >= max(min_user_events, 1)
        if users.all() and events.all():
            return kept
        if not users.any():
            raise DataError(
                f"no user is left with {min_user_events} events on items with {min_item_events} events.",
                fix="Lower min_user_events or min_item_events.",
            )
        interactions = kept if users.all() else kept.keep_users(users)


def leave_one_out(interactions: Interactions, targets: int = 1) -> Split:
    """A user's last item is the test target, the last but one the validation target, the rest is train.

    Args:
        targets: the last so many items are one question, and so many before them the other.

    Raises:
        DataError: a user has fewer events than both questions and one event of train need.
    """
    lengths, needed = np.diff(interactions.offsets), 2 * targets + 1
    if (short := np.flatnonzero(lengths < needed)).size:
        raise DataError(
            f"user '{interactions.users[int(short[0])]}' has {lengths[short[0]]} events, leave-{_counted(targets)}-out "
            f"needs {needed} ({short.size} such users).",
            fix=f"Set split.min_user_events: {needed} to drop them.",
        )
    last = np.repeat(interactions.offsets[1:], lengths) - np.arange(len(interactions))  # 1 for a user's last event

    def examples(behind: int) -> Examples:
        """The questions that leave so many events of each user behind them."""
        histories = interactions.filter(last > behind + targets).histories
        firsts = interactions.offsets[1:] - behind - targets
        wanted = _slices(interactions.item_rows, firsts, firsts + targets)
        users = np.arange(len(interactions.users), dtype=np.int32)
        return Examples(users, histories, wanted, _gaps(interactions, firsts))

    asked = "" if targets == 1 else f"; the {targets} targets of a user are one question"
    return Split(
        interactions.filter(last > 2 * targets),
        examples(targets),
        examples(0),
        f"leave-{_counted(targets)}-out by user; ties in time keep input order{asked}",
    )


def _counted(targets: int) -> str:
    return "one" if targets == 1 else str(targets)


def global_temporal(interactions: Interactions, valid: float = 0.1, test: float = 0.1, together: bool = False) -> Split:
    """Two points in time cut all users at once; every later event is one question about its own past.

    Args:
        valid, test: shares of the events, by time. Events that share the time of a cut fall on its later side, so no
            instant is divided.
        together: all that a user took behind a cut is one question, asked of what was before the cut.

    Raises:
        DataError: a share is not in (0, 1), or a part is left without an event.
    """
    if not (0 < valid < 1 and 0 < test < 1 and valid + test < 1):
        raise DataError(f"valid={valid} and test={test} are not shares.", fix="Give two shares that sum to under 1.")
    times = interactions.table["time"].to_numpy()
    in_order = np.sort(times)
    # The small addend keeps a share such as 1 - 0.15 - 0.05 = 0.7999... from losing the event that stands on the cut.
    cuts = [in_order[int(len(times) * share + 1e-6)] for share in (1 - valid - test, 1 - test)]
    part = np.searchsorted(np.asarray(cuts), times, side="right")  # 0 train, 1 valid, 2 test
    for number, name in enumerate(("train", "valid", "test")):
        if not (part == number).any():
            raise DataError(
                f"the temporal split leaves no event for {name}.",
                fix="Check that 'timestamp' is a real time (a per-user position is not), or change the shares.",
            )

    def examples(number: int) -> Examples:
        events = np.flatnonzero(part == number)
        users, counts = interactions.user_rows[events], np.ones(len(events), np.int64)
        if together:  # the events of a user follow one another
            users, first, counts = np.unique(users, return_index=True, return_counts=True)
            events = events[first]
        with_past = events > interactions.offsets[users]
        events, users, counts = events[with_past], users[with_past], counts[with_past]
        histories = _slices(interactions.item_rows, interactions.offsets[users], events)
        targets = _slices(interactions.item_rows, events, events + counts)
        return Examples(users, histories, targets, _gaps(interactions, events))

    asked = "; all that a user took behind a cut is one question" if together else ""
    return Split(
        interactions.filter(part == 0),
        examples(1),
        examples(2),
        f"global temporal {1 - valid - test:.0%}/{valid:.0%}/{test:.0%} by events; ties fall on the later side{asked}",
    )


def cut(interactions: Interactions, settings: SplitRecipe) -> Split:
    """The split that a recipe names (its k-core is already applied)."""
    if settings.kind == "leave_one_out":
        return leave_one_out(interactions, settings.targets)
    return global_temporal(interactions, settings.valid, settings.test, settings.together)
