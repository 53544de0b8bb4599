"""ItemKNN: shrunk cosines by hand, and equality with a plain dense computation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from recommenders.letters import CATALOG, LETTERS, answer, events, history, score

from llmrec.recommenders import itemknn
from llmrec.recommenders.item_graph import TIE_BREAK
from llmrec.recommenders.itemknn import ItemKNN

WALKS = ("abc", "ab", "acd", "ea", "e")


def fitted(**settings: float) -> ItemKNN:
    return ItemKNN(**settings).fit(events(*WALKS), CATALOG)


def test_a_similarity_by_hand() -> None:
    # a has four users, b two, both of b's have a: 2 / (sqrt(8) + 3)
    assert score(fitted(shrinkage=3), "a", "b") == pytest.approx(2 / (8**0.5 + 3), rel=2e-4)
    assert score(fitted(shrinkage=0), "ac", "d") == pytest.approx(1 / 4**0.5 + 1 / 2**0.5, rel=2e-4)


def test_older_events_weigh_less() -> None:
    assert score(fitted(shrinkage=0, decay=0.5), "ac", "d") == pytest.approx(0.5 / 4**0.5 + 1 / 2**0.5, rel=2e-4)


def test_items_without_a_common_user_follow_by_popularity() -> None:
    assert (
        answer(fitted(shrinkage=0), "d") == "cabefg"
    )  # c and a have a user of d; two users took b and e, nobody f and g
    assert answer(fitted(), "") == "abcedfg"


def test_only_the_nearest_neighbours_count() -> None:
    few = fitted(shrinkage=0, neighbours=1)  # of a: b and c are alike, the lower row stays
    assert [score(few, "a", item) > 0 for item in "bcde"] == [True, False, False, False]


def test_events_that_a_user_repeats_count_once() -> None:
    once, twice = ItemKNN().fit(events("ab", "ac"), CATALOG), ItemKNN().fit(events("abab", "aac"), CATALOG)
    assert score(once, "b", "a") == pytest.approx(score(twice, "b", "a"), rel=1e-6)


walks = st.lists(st.text(alphabet=LETTERS, min_size=1, max_size=6), min_size=1, max_size=8)


@given(walks, st.text(alphabet=LETTERS, max_size=4), st.sampled_from([0.0, 2.0]))
def test_equals_the_dense_formula(walks: list[str], word: str, shrinkage: float) -> None:
    recommender = ItemKNN(shrinkage=shrinkage).fit(events(*walks), CATALOG)
    taken = np.array([[letter in walk for letter in LETTERS] for walk in walks], float)
    common, users = taken.T @ taken, taken.sum(axis=0)
    with np.errstate(invalid="ignore"):
        similar = np.nan_to_num(common / (np.sqrt(np.outer(users, users)) + shrinkage))
    np.fill_diagonal(similar, 0)
    expected = sum((similar[LETTERS.index(letter)] for letter in word), np.zeros(len(LETTERS)))
    found = recommender.score(history(word))[0]
    np.testing.assert_allclose(np.maximum(found, 0), expected, rtol=2 * TIE_BREAK)


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = fitted()._arrays
    monkeypatch.setattr(itemknn, "ITEMS_AT_ONCE", 2)
    for name, values in fitted()._arrays.items():
        np.testing.assert_array_equal(values, whole[name])
