"""Why an item: the levels of its code, and the items of the history that are like it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import HashingVectorizer

from llmrec.indexes.base import END, ItemIndex
from llmrec.recommenders.llm import LLMRecommender
from llmrec.serving.live import Live
from llmrec.serving.questions import Best
from llmrec.serving.schemas import Explanation, Level, Neighbour
from llmrec.types import Rows

NEAREST = 3
"""Items of the history that are named for each recommended one."""

RECENT = 100
"""Items of the history, the latest, among which they are looked for."""

_words = HashingVectorizer(n_features=2**18, alternate_sign=False)


def explanations(live: Live, history: Rows, best: Best) -> list[Explanation]:
    """One for each item of a list."""
    history = history[-RECENT:]
    shared = np.zeros((len(best.rows), len(history)), np.int64)
    levels: list[list[Level]] = [[] for _ in best.rows]
    if isinstance(live.recommender, LLMRecommender):
        index = live.recommender.task.items.index
        shared = shared_levels(index, best.rows, history)
        levels = [_levels(live.recommender, int(row), said) for row, said in zip(best.rows, best.levels, strict=True)]
    alike = _similar([live.catalog.title(row) for row in best.rows], [live.catalog.title(row) for row in history])
    return [
        Explanation(code=live.code(int(row)), levels=levels[at], nearest=_nearest(live, history, shared[at], alike[at]))
        for at, row in enumerate(best.rows)
    ]


def shared_levels(index: ItemIndex, rows: Rows, others: Rows) -> NDArray[np.int64]:
    """`int64[n, m]`: how many codes of an item's beginning are also those of another."""
    left, right = index.codes[rows][:, None], index.codes[others][None]
    return np.cumprod((left == right) & (left != END), axis=-1).sum(-1)


def _levels(recommender: LLMRecommender, row: int, said: NDArray[np.float32]) -> list[Level]:
    names = recommender.task.items.tokenizer.convert_ids_to_tokens(recommender.task.items.encode(row))
    return [Level(token=name, log_p=float(value)) for name, value in zip(names, said, strict=False)]


def _similar(titles: Sequence[str], others: Sequence[str]) -> NDArray[np.float64]:
    if not titles or not others:
        return np.zeros((len(titles), len(others)))
    return np.asarray((_words.transform(titles) @ _words.transform(others).T).todense())


def _nearest(live: Live, history: Rows, shared: NDArray[np.int64], alike: NDArray[np.float64]) -> list[Neighbour]:
    order = np.lexsort((-np.arange(len(history)), -alike, -shared))[:NEAREST]  # of equal ones the latest
    return [
        Neighbour(
            item_id=live.catalog.items[int(history[at])],
            title=live.catalog.title(history[at]),
            shared_levels=int(shared[at]),
            similarity=round(float(alike[at]), 4),
        )
        for at in order
        if shared[at] or alike[at] > 0
    ]
