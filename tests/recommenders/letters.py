"""A catalog of seven letters, histories as words: `fit(Markov(), "ab", "ac")`, `answer(markov, "a") == "bc..."`."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from llmrec.data.catalog import Catalog
from llmrec.data.interactions import Interactions
from llmrec.recommenders.scoring import ScoringRecommender
from llmrec.types import Ragged

LETTERS = "abcdefg"
CATALOG = Catalog(pa.table({"item_id": list(LETTERS), "title": list(LETTERS.upper())}))


def events(*walks: str) -> Interactions:
    """One user a word."""
    users = pa.array([f"u{user}" for user, walk in enumerate(walks) for _ in walk])
    times = np.concatenate([np.arange(len(walk)) for walk in walks])
    return Interactions.from_columns(users, pa.array(list("".join(walks))), times, CATALOG.items)


def history(word: str) -> Ragged:
    return Ragged.from_lists([[LETTERS.index(letter) for letter in word]])


def answer(recommender: ScoringRecommender, word: str, k: int = 7) -> str:
    """The best items that the history does not hold."""
    return "".join(LETTERS[row] for row in recommender.recommend(history(word), k=k).rows[0] if row >= 0)


def score(recommender: ScoringRecommender, word: str, item: str) -> float:
    """The score of one item."""
    return float(recommender.score(history(word))[0, LETTERS.index(item)])
