"""Evaluating holds lists, never a score for every user and item."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pyarrow as pa
import pytest

from llmrec.data.catalog import Catalog
from llmrec.data.interactions import Interactions
from llmrec.data.split import Examples
from llmrec.evaluation.beyond_accuracy import ItemFacts
from llmrec.evaluation.describe import describe
from llmrec.evaluation.protocol import evaluate
from llmrec.recommenders import scoring
from llmrec.recommenders.itemknn import ItemKNN
from llmrec.recommenders.markov import Markov
from llmrec.recommenders.popularity import Popularity
from llmrec.recommenders.scoring import ScoringRecommender
from llmrec.types import Ragged

ITEMS = 20_000
TITLES = [f"i{row}" for row in range(ITEMS)]
CATALOG = Catalog(pa.table({"item_id": TITLES, "title": TITLES}))


def peak_of(recommender: ScoringRecommender, train: Interactions, users: int) -> int:
    """Bytes at the most, while so many users are evaluated and described."""
    random = np.random.default_rng(0)
    histories = Ragged(random.integers(0, ITEMS, 5 * users, np.int32), np.arange(users + 1) * 5)
    targets = Ragged(random.integers(0, ITEMS, users, np.int32), np.arange(users + 1))
    questions = Examples(np.arange(users, dtype=np.int32), histories, targets)
    facts = ItemFacts.of(train, CATALOG)
    tracemalloc.start()
    try:
        result = evaluate(recommender, questions, (10,), progress=False, metrics=["ndcg"])
        describe(result, questions, facts, samples=20)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("kind", [Popularity, Markov, ItemKNN])
def test_memory_does_not_grow_with_users_times_items(
    kind: type[ScoringRecommender], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "SCORES_AT_ONCE", 40 * ITEMS)  # a block of 3.2 MB
    random = np.random.default_rng(1)
    train = Interactions.from_columns(
        pa.array([f"u{user}" for user in np.repeat(np.arange(200), 5)]),
        pa.array([f"i{row}" for row in random.integers(0, ITEMS, 1000)]),
        np.arange(1000),
        CATALOG.items,
    )
    recommender = kind().fit(train, CATALOG)
    few, many = peak_of(recommender, train, 100), peak_of(recommender, train, 1000)
    matrix = 4 * 1000 * ITEMS  # 80 MB
    assert many < matrix / 2
    assert many - few < 1000 * 2000  # two kilobytes a user at most, where a row of scores is eighty
