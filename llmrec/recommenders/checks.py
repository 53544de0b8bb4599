"""What every recommender checks where a value enters: numbers of items, histories, candidates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmrec.errors import DataError
from llmrec.recommenders.base import Recommender
from llmrec.types import Candidates, PreparedCandidates, Ragged, Rows


def checked_k(k: int) -> int:
    """The number of items wanted.

    Raises:
        DataError: it is below 1.
    """
    if k < 1:
        raise DataError(f"k is {k}.", fix="Ask for at least one item.")
    return k


def checked_histories(histories: Ragged | Sequence[Rows], size: int) -> Ragged:
    """The histories as one `Ragged` whose values belong to its lists and to the catalog.

    Args:
        histories: `B` lists of item rows. size: items in the catalog.

    Raises:
        DataError: an item row is not in `[0, size)`.
    """
    return _in_catalog(histories if isinstance(histories, Ragged) else Ragged.from_lists(histories), "history", size)


def checked_candidates(
    recommender: Recommender, candidates: Candidates | None, users: int
) -> Ragged | PreparedCandidates | None:
    """The argument of `Recommender.recommend`: lists of the catalog's items, or what the recommender itself prepared.

    Args:
        users: histories, `B`.

    Raises:
        DataError: an item row is not in the catalog, or there are not as many lists as histories.
    """
    if candidates is None or isinstance(candidates, PreparedCandidates):
        return candidates
    if not isinstance(candidates, Ragged):
        return recommender.prepare_candidates(candidates)
    if len(candidates) != users:
        raise DataError(f"there are {len(candidates)} lists of candidates for {users} histories.", fix="Give one each.")
    return _in_catalog(candidates, "candidates of history", len(recommender.catalog))


def left_out(histories: Ragged, exclude_seen: bool, exclude: Ragged | None, size: int) -> Ragged | None:
    """What must not come for each history; None where nothing is.

    Raises:
        DataError: an item row is not in `[0, size)`, or there are not as many lists as histories.
    """
    if exclude is None:
        return histories if exclude_seen else None
    if len(exclude) != len(histories):
        told = f"there are {len(exclude)} lists to exclude for {len(histories)} histories."
        raise DataError(told, fix="Give one each.")
    exclude = _in_catalog(exclude, "what to exclude for history", size)
    if not exclude_seen:
        return exclude
    return Ragged.from_lists([np.concatenate(both) for both in zip(histories, exclude, strict=True)])


def distinct_rows(candidates: Rows, size: int) -> Rows:
    """The distinct candidates in ascending order, `int32[C]`.

    Raises:
        DataError: an item row is not in `[0, size)`.
    """
    distinct = np.unique(np.asarray(candidates, np.int32))
    if distinct.size and not 0 <= distinct[0] <= distinct[-1] < size:
        wrong = distinct[0] if distinct[0] < 0 else distinct[-1]
        raise DataError(
            f"candidate item row {wrong} is not in the catalog, which has rows 0 to {size - 1}.",
            fix="Leave out items that the catalog does not know.",
        )
    return distinct


def checked_items(items: NDArray[np.integer[Any]], users: int, size: int) -> NDArray[np.int32]:
    """Items to score for each history, `int32[B, n]`, -1 for none.

    Args:
        items: `[n]` for all histories, or `[B, n]`. users: `B`. size: items in the catalog.

    Raises:
        DataError: an item row is not in `[-1, size)`, or there are not as many lists as histories.
    """
    items = np.asarray(items, np.int32)
    if items.ndim not in (1, 2) or (items.ndim == 2 and len(items) != users):
        raise DataError(
            f"the items have the shape {items.shape} for {users} histories.",
            fix=f"Give one list for all histories, or {users} of one length, filled up with -1.",
        )
    if (wrong := items[(items < -1) | (items >= size)]).size:
        raise DataError(
            f"item row {wrong[0]} is not in the catalog, which has rows 0 to {size - 1}.",
            fix="Leave out items that the catalog does not know.",
        )
    return np.broadcast_to(items, (users, items.shape[-1]))


def _in_catalog(lists: Ragged, what: str, size: int) -> Ragged:
    """The same lists in an array of their own."""
    own = lists.slice(0, len(lists))
    if (wrong := np.flatnonzero((own.values < 0) | (own.values >= size))).size:
        owner = int(np.searchsorted(own.offsets, wrong[0], side="right")) - 1
        raise DataError(
            f"{what} {owner} has item row {own.values[wrong[0]]}, the catalog has rows 0 to {size - 1}.",
            fix="Leave out items that the catalog does not know.",
        )
    return own
