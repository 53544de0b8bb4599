"""Draw without replacement from the whole catalog by weight, for many choices at once.

Items are proposed by their weight; positives and repeats are proposed anew. That is exactly the draw one after another
in which each further item is as likely as its weight among those still allowed. The few choices that are not full after
`ROUNDS` (a user who took nearly everything) are completed from their own list of allowed items, by the same law.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from llmrec.tasks.negatives.base import NONE, Choices, Rows2D

ROUNDS = 50


def draw_weighted(choices: Choices, weights: NDArray[np.float64], count: int, rng: np.random.Generator) -> Rows2D:
    """Negatives by weight.

    Args:
        weights: `float64[N]`, not negative; 0 for an item that is never drawn. count: items wanted of each choice.

    Returns:
        `int32[P, count]`, filled with `NONE` where too few items are allowed.
    """
    drawn = np.full((len(choices), count), NONE, np.int32)
    sums = np.cumsum(weights)
    if not len(drawn) or not sums[-1]:
        return drawn
    for column in range(count):
        open_rows = np.flatnonzero(drawn[:, column - 1] != NONE) if column else np.arange(len(drawn))
        for _ in range(ROUNDS):
            if not len(open_rows):
                break
            proposed = np.searchsorted(sums, rng.random(len(open_rows)) * sums[-1], side="right").astype(np.int32)
            wrong = choices.is_positive(open_rows, proposed) | (drawn[open_rows] == proposed[:, None]).any(1)
            drawn[open_rows[~wrong], column] = proposed[~wrong]
            open_rows = open_rows[wrong]
        for row in open_rows:
            drawn[row, column] = _from_the_rest(choices, int(row), drawn[row], weights, rng)
    return drawn


def _from_the_rest(
    choices: Choices, row: int, taken: NDArray[np.int32], weights: NDArray[np.float64], rng: np.random.Generator
) -> int:
    """One more item of one choice, from the list of all that are allowed; `NONE` if there is none."""
    rows = np.flatnonzero(weights).astype(np.int32)
    rows = rows[~choices.is_positive(np.full(len(rows), row), rows) & ~np.isin(rows, taken)]
    if not len(rows):
        return NONE
    return int(rng.choice(rows, p=weights[rows] / weights[rows].sum()))
