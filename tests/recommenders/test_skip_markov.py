"""Markov with skips: counts by hand, and the first-order counter as its simplest case."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from recommenders.letters import CATALOG, LETTERS, answer, events, score
from recommenders.test_markov import real_split

from llmrec.evaluation.protocol import evaluate
from llmrec.recommenders.markov import Markov
from llmrec.recommenders.skip_markov import SkipMarkov


def test_a_pair_two_steps_apart_counts_by_the_decay() -> None:
    recommender = SkipMarkov(order=2, decay=0.5, normalise=0).fit(events("abc", "bc"), CATALOG)
    assert score(recommender, "a", "b") == pytest.approx(1, rel=2e-4)
    assert score(recommender, "a", "c") == pytest.approx(0.5, rel=2e-4)
    # b is the last item (b -> c twice), a the one before it (a -> c, half, and half again for its age)
    assert score(recommender, "ab", "c") == pytest.approx(2 + 0.5 * 0.5, rel=2e-4)


def test_neither_pairs_nor_histories_reach_beyond_the_order() -> None:
    recommender = SkipMarkov(order=2, decay=1, normalise=0).fit(events("abcd", "eg"), CATALOG)
    assert score(recommender, "a", "d") <= 0
    assert score(recommender, "ebc", "g") <= 0  # e is the third last


def test_counts_become_probabilities_of_one_item() -> None:
    recommender = SkipMarkov(order=1, normalise=1).fit(events("ab", "ab", "ac", "fg"), CATALOG)
    assert score(recommender, "a", "b") == pytest.approx(2 / 3, rel=2e-4)
    assert score(recommender, "f", "g") == pytest.approx(1, rel=2e-4)


def test_pairs_do_not_cross_users() -> None:
    recommender = SkipMarkov(order=3).fit(events("ab", "cd"), CATALOG)
    assert score(recommender, "b", "c") <= 0


def test_a_sequel_is_found_where_the_first_order_counter_knows_nothing() -> None:
    """Nothing ever followed d, but the item before it says enough."""
    train = events("ab", "ab", "ff", "ff", "ff", "ed")
    assert answer(Markov().fit(train, CATALOG), "ad", k=1) == "f"
    assert answer(SkipMarkov().fit(train, CATALOG), "ad", k=1) == "b"


walks = st.lists(st.text(alphabet=LETTERS, min_size=1, max_size=6), min_size=1, max_size=6)


@given(walks, st.text(alphabet=LETTERS, max_size=3), st.sampled_from([0.0, 0.5, 1.0]))
def test_of_order_one_it_ranks_as_the_counter_with_popularity_ties(
    walks: list[str], word: str, normalise: float
) -> None:
    train = events(*walks)
    skips = SkipMarkov(order=1, normalise=normalise).fit(train, CATALOG)
    assert answer(skips, word) == answer(Markov(ties="popularity").fit(train, CATALOG), word)


@pytest.mark.slow
def test_the_documented_figures_of_amazon_2014(shared_data: Path) -> None:
    catalog, split = real_split(shared_data / "amazon14_office")
    result = evaluate(SkipMarkov().fit(split.train, catalog), split.test, progress=False, split=split.protocol)
    assert result.metrics["hr@10"] == pytest.approx(0.0954, abs=5e-5)
    assert result.metrics["ndcg@10"] == pytest.approx(0.0577, abs=5e-5)
