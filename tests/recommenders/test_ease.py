"""EASE: the closed form against its own definition, and the refusal of catalogs that do not fit."""

from __future__ import annotations

import numpy as np
import pytest
from recommenders.letters import CATALOG, LETTERS, answer, events

from llmrec.errors import DataError
from llmrec.recommenders import ease
from llmrec.recommenders.ease import EASE

WALKS = ("abc", "abc", "acd", "ea", "edg", "fbd")


def test_two_items_by_hand() -> None:
    # three users with both, one with a alone, one with b alone: G = [[4, 3], [3, 4]], with 2 added to its diagonal
    # P = 1/27 [[6, -3], [-3, 6]], so B[a, b] = -P[a, b] / P[b, b] = 0.5
    weights = EASE(regularization=2).fit(events("ab", "ba", "ab", "a", "b"), CATALOG)._arrays["weights"]
    assert weights[0, 1] == pytest.approx(0.5)
    assert weights[1, 0] == pytest.approx(0.5)
    assert weights[0, 0] == 0


def test_no_other_weights_have_a_lower_loss() -> None:
    """Every column is the ridge regression of one item on all others, which is what the loss asks for."""
    taken = np.array([[letter in walk for letter in LETTERS] for walk in WALKS], float)
    weights = EASE(regularization=0.7).fit(events(*WALKS), CATALOG)._arrays["weights"]
    for item in range(len(LETTERS)):
        others = np.delete(np.arange(len(LETTERS)), item)
        left = taken[:, others]
        best = np.linalg.solve(left.T @ left + 0.7 * np.eye(len(others)), left.T @ taken[:, item])
        np.testing.assert_allclose(weights[others, item], best, atol=1e-6)
    assert (np.diag(weights) == 0).all()


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = EASE().fit(events(*WALKS), CATALOG)._arrays["weights"]
    monkeypatch.setattr(ease, "ITEMS_AT_ONCE", 3)
    np.testing.assert_array_equal(EASE().fit(events(*WALKS), CATALOG)._arrays["weights"], whole)


def test_what_is_repeated_counts_once_in_train_and_in_histories() -> None:
    once, twice = EASE().fit(events(*WALKS), CATALOG), EASE().fit(events("aabca", *WALKS[1:]), CATALOG)
    np.testing.assert_array_equal(once._arrays["weights"], twice._arrays["weights"])
    one, other = (once.recommend([np.array(items, np.int32)]).scores for items in ([0, 1], [0, 1, 1, 0]))
    np.testing.assert_array_equal(one, other)


def test_an_empty_history_gets_what_is_popular() -> None:
    assert answer(EASE().fit(events(*WALKS), CATALOG), "")[0] == "a"


def test_a_catalog_that_does_not_fit_is_refused_before_anything_is_computed() -> None:
    with pytest.raises(DataError, match=r"EASE on 7 items needs .* GB.*at most 2 items.*itemknn"):
        EASE(max_gigabytes=16 * 2**2 / 1e9).fit(events(*WALKS), CATALOG)
