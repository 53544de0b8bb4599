"""Why an item was recommended, in a sentence that can name nothing but the history and the list.

    for reason in reasons(recommender, history, found.rows[0]):
        print(reason.text)

What is said is measured: each item of the history is left out in turn, and what the recommended item's log-probability
loses is what that item of the history is worth to it (leave-one-out, as in Li et al. 2016, Understanding Neural
Networks through Representation Erasure, https://arxiv.org/abs/1612.08220). No model writes the sentence: it is a fixed
wording with titles in it, so it cannot make up an item. That it does not is counted all the same, by
`llmrec.evaluation.naming`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from llmrec.data.catalog import Catalog
from llmrec.recommenders.llm import LLMRecommender
from llmrec.types import Rows

LATEST = 20
"""Items of a history, the latest, that are left out one by one."""


class Reason(NamedTuple):
    """Why one item.

    Args:
        item: the recommended item's row. because: rows of the history's items that speak for it, the strongest first.
        gains: for each of them, in nats, what `log p(item | history)` loses without it; all above 0.
        text: the sentence.
    """

    item: int
    because: tuple[int, ...]
    gains: tuple[float, ...]
    text: str


def reasons(
    recommender: LLMRecommender, history: Rows | Sequence[int], items: Rows | Sequence[int], most: int = 2
) -> list[Reason]:
    """One for each item.

    Costs the scores of the items after one prompt for each item that is left out.

    Args:
        history: item rows, oldest first; one that was taken several times is left out as a whole.
        items: rows of recommended items, -1 for none, which gets no reason.
        most: items of the history that are named for each.

    Raises:
        DataError: an item row is not in the catalog.
    """
    wanted: Rows = np.asarray(items, np.int32)
    wanted = wanted[wanted != -1]
    shown: Rows = np.asarray(history, np.int32)
    shown = shown[-recommender.task.max_history :]  # older ones must not come in for those left out
    taken = np.unique(shown[-LATEST:])
    if not len(wanted):
        return []
    scores = recommender.score([shown, *(shown[shown != row] for row in taken)], wanted)  # (1 + taken, items)
    gains = (scores[0] - scores[1:]).T  # (items, taken)
    found = []
    for row, of_item in zip(wanted.tolist(), gains, strict=True):
        best = [at for at in np.argsort(-of_item, kind="stable")[:most] if of_item[at] > 0]
        because = tuple(int(taken[at]) for at in best)
        text = sentence(recommender.catalog, row, because, bool(len(shown)))
        found.append(Reason(row, because, tuple(float(of_item[at]) for at in best), text))
    return found


def sentence(catalog: Catalog, item: int, because: Sequence[int], has_history: bool = True) -> str:
    """A reason in words.

    Args:
        item: the recommended item's row. because: rows of the items that speak for it.
        has_history: whether there was a history at all.
    """
    if not has_history:
        return f"{_quoted(catalog, item)} is what this model recommends without a history."
    if not because:
        return f"{_quoted(catalog, item)} suits the whole history; no single item of it speaks for this one."
    return f"{_quoted(catalog, item)}, because you took {' and '.join(_quoted(catalog, row) for row in because)}."


def _quoted(catalog: Catalog, row: int) -> str:
    return f"“{catalog.title(row) or catalog.items[row]}”"
