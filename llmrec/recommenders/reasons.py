"""Why this item, in a sentence: the items of the history without which the model would think less of it.

Each of the latest items is left out once, and the score of the recommended item is compared (leave-one-out). The
sentence is made of titles alone, those of the history and of the list, so it cannot name anything else; a free text by
the model could.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llmrec.recommenders.llm import LLMRecommender
from llmrec.types import Rows

LATEST = 10
"""Items of a history that are left out one by one."""


@dataclass(frozen=True)
class Reason:
    """Of one recommended item.

    Args:
        item: its row. because: rows of the history, the weightiest first. gains: nats that each adds to its score.
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

    Args:
        history: item rows, oldest first. items: what was recommended. most: items of the history that are named.

    Raises:
        DataError: an item row is not in the catalog.
    """
    history, items = np.asarray(history, np.int32), np.asarray([row for row in items if row >= 0], np.int32)
    if not len(items):
        return []
    latest = np.arange(max(0, len(history) - LATEST), len(history))
    shorter = [history, *(np.delete(history, place) for place in latest)]
    scores = recommender.score(shorter, np.tile(items, (len(shorter), 1)))  # (1 + m, n)
    gains = scores[0] - scores[1:]  # (m, n)
    return [_reason(recommender, int(item), history[latest], gains[:, place], most) for place, item in enumerate(items)]


def _reason(recommender: LLMRecommender, item: int, latest: Rows, gains: NDArray[np.float32], most: int) -> Reason:
    order = [place for place in np.argsort(-gains, kind="stable").tolist() if gains[place] > 0]
    chosen: list[int] = []
    for place in order:
        if len(chosen) < most and latest[place] not in latest[chosen]:
            chosen.append(place)
    title = recommender.catalog.title
    if not len(latest):
        text = f"“{title(item)}”: what many begin with."
    elif not chosen:
        text = f"“{title(item)}”: it suits the whole history."
    else:
        named = " and ".join(f"“{title(int(latest[place]))}”" for place in chosen)
        text = f"“{title(item)}”, because you took {named}."
    rows, values = tuple(int(latest[place]) for place in chosen), tuple(float(gains[place]) for place in chosen)
    return Reason(item, rows, values, text)
