"""Text neighbours: what reads like the history comes first, and nobody's choices matter."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from llmrec.data.catalog import Catalog
from llmrec.data.interactions import Interactions
from llmrec.errors import RecipeError
from llmrec.recommenders.text_knn import TextKNN

TITLES = ["red pen", "red ink pen", "blue lamp", "blue desk lamp", "", "garden chair"]
CATALOG = Catalog(pa.table({"item_id": [f"i{row}" for row in range(6)], "title": TITLES}))
TFIDF = {"kind": "tfidf"}


def train(items: list[str]) -> Interactions:
    users = pa.array(["u"] * len(items))
    return Interactions.from_columns(users, pa.array(items), np.arange(len(items)), CATALOG.items)


def ranked(recommender: TextKNN, history: list[int]) -> list[int]:
    return recommender.recommend([np.array(history, np.int32)], k=5).rows[0].tolist()


def test_what_reads_alike_comes_first() -> None:
    recommender = TextKNN(encoder=TFIDF).fit(train(["i5"]), CATALOG)
    assert ranked(recommender, [0])[0] == 1
    assert ranked(recommender, [3])[0] == 2


def test_the_score_is_the_cosine_to_the_mean_of_the_history() -> None:
    recommender = TextKNN(encoder=TFIDF, decay=0.5).fit(train(["i5"]), CATALOG)
    vectors = recommender._arrays["vectors"]
    mean = 0.5 * vectors[0] + vectors[3]
    found = recommender.recommend([np.array([0, 3], np.int32)], k=6, exclude_seen=False)
    expected = vectors @ mean / np.linalg.norm(mean)
    np.testing.assert_allclose(found.scores[0], expected[found.rows[0]], atol=1e-6)


def test_the_newest_item_leads_where_older_ones_fade() -> None:
    assert ranked(TextKNN(encoder=TFIDF, decay=0.1).fit(train(["i5"]), CATALOG), [0, 2])[0] == 3
    assert ranked(TextKNN(encoder=TFIDF, decay=0.1).fit(train(["i5"]), CATALOG), [2, 0])[0] == 1


def test_other_people_change_nothing_unless_the_history_says_nothing() -> None:
    one, other = (TextKNN(encoder=TFIDF).fit(train(items), CATALOG) for items in (["i0", "i3"], ["i2", "i2"]))
    assert ranked(one, [0]) == ranked(other, [0])
    assert ranked(other, [])[0] == ranked(other, [4])[0] == 2  # item 4 has no title


def test_centred_vectors_have_no_common_part() -> None:
    vectors = TextKNN(encoder=TFIDF, centre=True).fit(train(["i0"]), CATALOG)._arrays["vectors"]
    assert not vectors[4].any()  # an item without text stays without a direction
    lengths = np.linalg.norm(vectors[[0, 1, 2, 3, 5]], axis=1)
    np.testing.assert_allclose(lengths, 1, rtol=1e-5)


def test_an_encoder_must_be_named_and_known() -> None:
    with pytest.raises(RecipeError, match="encoder: this setting has no default"):
        TextKNN.parse({})
    with pytest.raises(RecipeError, match="Did you mean 'tfidf'"):
        TextKNN.parse({"encoder": {"kind": "tfdif"}})
