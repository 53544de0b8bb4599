"""Questions about one given item: after this history, did the user take it, and how did they rate it?

Next-item questions ask which item; these ask of one item whether (click prediction) or how well (rating prediction).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llmrec.data.interactions import Interactions
from llmrec.data.split import Examples
from llmrec.errors import DataError
from llmrec.types import Ragged, Rows


@dataclass(frozen=True)
class Judgements:
    """`E` questions with their answers.

    Args:
        users: `int32[E]`. histories: `E` lists of item rows, oldest first. items: `int32[E]`, the item asked about.
        values: `float32[E]`, the rating; or 1 where the user took the item and 0 where not.
        history_values: `float32`, beside `histories.values`: how the user rated what came before; None if unknown.
    """

    users: Rows
    histories: Ragged
    items: Rows
    values: NDArray[np.float32]
    history_values: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.users)

    def liked(self, threshold: float) -> NDArray[np.bool_]:
        """`bool[E]`: the value is at least this. A rating becomes a click in this way; say the threshold."""
        return self.values >= threshold

    def sample(self, size: int | None, seed: int) -> Judgements:
        """At most `size` questions, drawn without replacement, in the original order."""
        if size is None or size >= len(self):
            return self
        chosen = np.sort(np.random.default_rng(seed).choice(len(self), size, replace=False))
        known = self.history_values
        of_values = None
        if known is not None:
            places = Ragged(np.arange(len(self.histories.values), dtype=np.int32), self.histories.offsets)
            of_values = known[places.take(chosen).values]
        histories = self.histories.take(chosen)
        return Judgements(self.users[chosen], histories, self.items[chosen], self.values[chosen], of_values)


def rated(interactions: Interactions, examples: Examples) -> Judgements:
    """The questions of a split, about the item that came next, with the rating that the user gave it.

    Args:
        interactions: the whole table that the split was cut from. examples: its valid or test part.

    Raises:
        DataError: there are no ratings, or the examples were cut from another table.
    """
    if "rating" not in interactions.table.column_names:
        raise DataError(
            "the interactions have no ratings.",
            fix="Name the column in the source's column map, or draw items that were not taken (with_drawn_items).",
        )
    # A history is all that the user did before, so its length says which event came next.
    lengths = examples.histories.lengths
    events = interactions.offsets[examples.users] + lengths
    targets = examples.targets.values[examples.targets.offsets[:-1]]
    if (examples.targets.lengths != 1).any() or (events >= interactions.offsets[examples.users + 1]).any():
        raise DataError("the examples do not fit the interactions.", fix="Give the table that the split was cut from.")
    if (interactions.item_rows[events] != targets).any():
        raise DataError("the examples ask for other items.", fix="Give the table that the split was cut from.")
    ratings = interactions.table["rating"].to_numpy().astype(np.float32)
    offsets = examples.histories.offsets - examples.histories.offsets[0]
    starts = interactions.offsets[examples.users]
    before = np.repeat(starts - offsets[:-1], lengths) + np.arange(offsets[-1])
    histories = Ragged(interactions.item_rows[before], offsets)
    return Judgements(examples.users, histories, targets, ratings[events], ratings[before])


def with_drawn_items(examples: Examples, size: int, count: int = 1, seed: int = 0) -> Judgements:
    """What came next, as 1, and items that the user took neither before nor then, drawn uniformly, as 0.

    For data without ratings or a log of what was shown. An item that was not taken need not be disliked, and most drawn
    items are rare: such figures are high, and compare with none from real exposures. Say that items were drawn.

    Args:
        size: items of the catalog. count: items drawn for each question.

    Raises:
        DataError: an example has several targets, or a user took so many items that too few are left.

    >>> examples = Examples(np.array([5]), Ragged.from_lists([[0]]), Ragged.from_lists([[1]]))
    >>> found = with_drawn_items(examples, size=3)
    >>> found.items.tolist(), found.values.tolist()
    ([1, 2], [1.0, 0.0])
    """
    if (examples.targets.lengths != 1).any():
        raise DataError("an example has several targets.", fix="Cut the data so that each question has one.")
    rng, items = np.random.default_rng(seed), []
    for history, target in zip(examples.histories, examples.targets, strict=True):
        free = np.setdiff1d(np.arange(size), np.concatenate([history, target]))
        if len(free) < count:
            raise DataError(f"a user took all but {len(free)} of {size} items.", fix=f"Draw fewer than {count}.")
        items.append(np.concatenate([target, rng.choice(free, count, replace=False)]))
    each = np.repeat(np.arange(len(examples)), count + 1)
    values = np.tile(np.eye(1, count + 1, dtype=np.float32)[0], len(examples))
    drawn = np.concatenate(items).astype(np.int32) if items else np.empty(0, np.int32)
    return Judgements(examples.users[each], examples.histories.take(each), drawn, values)
