"""Stated probabilities against what happened, by hand and on recommenders that know the truth."""

from __future__ import annotations

import doctest

import numpy as np
import pytest
from circle import make_task
from worlds import TinyWorld

from llmrec.data.split import Examples
from llmrec.evaluation import calibration
from llmrec.evaluation.calibration import log_likelihood, reliability, stated_likelihood
from llmrec.recommenders.llm import Decoding, LLMRecommender
from llmrec.recommenders.popularity import Popularity
from llmrec.recommenders.sasrec import SASRec
from llmrec.sources.synthetic import SyntheticSource
from llmrec.types import Ragged


def asked_for_every_item(size: int) -> Examples:
    """One question for each item, after the same history."""
    targets = Ragged.from_lists([[row] for row in range(size)])
    return Examples(np.zeros(size, np.int32), Ragged.from_lists([[1, 2]] * size), targets)


def test_docstring_examples_run() -> None:
    result = doctest.testmod(calibration)
    assert result.attempted >= 1
    assert result.failed == 0


def test_the_error_of_a_true_model_vanishes_and_that_of_a_boaster_does_not() -> None:
    rng = np.random.default_rng(0)
    probabilities = rng.uniform(0.05, 0.6, 40_000)
    taken = rng.random(40_000) < probabilities
    rows = np.zeros((40_000, 1), np.int32)
    targets = Ragged.from_lists([[0] if hit else [1] for hit in taken])
    honest = reliability(rows, np.log(probabilities)[:, None], targets)
    boasting = reliability(rows, np.log(np.minimum(1, 2 * probabilities))[:, None], targets)
    assert honest.error < 0.01
    assert boasting.error > 0.2
    assert sum(honest.counts) == 40_000
    assert list(honest.stated) == sorted(honest.stated)


def test_empty_places_and_impossible_items_are_passed_over() -> None:
    rows, scores = np.array([[4, -1], [2, 3]], np.int32), np.array([[-0.5, -np.inf], [-1.0, -np.inf]], np.float32)
    found = reliability(rows, scores, Ragged.from_lists([[4], [3]]))
    assert sum(found.counts) == 2
    assert found.taken == (0.0, 1.0)  # the least likely first


def test_log_likelihood_is_that_of_the_target_whether_seen_or_not() -> None:
    dataset = SyntheticSource(users=40, items=24).load()
    model = Popularity().fit(dataset.interactions, dataset.catalog)
    targets = [int(dataset.interactions.history(user)[0]) for user in range(3)]  # already in the history
    histories = Ragged.from_lists([dataset.interactions.history(user) for user in range(3)])
    examples = Examples(np.arange(3, dtype=np.int32), histories, Ragged.from_lists([[t, 0] for t in targets]))
    counts = np.bincount(dataset.interactions.item_rows, minlength=24)
    expected = np.log((counts[targets] + 1) / (counts.sum() + 24))
    np.testing.assert_allclose(log_likelihood(model, examples), expected, rtol=1e-5)


def test_a_distribution_over_the_catalog_sums_to_one(tiny_world: TinyWorld) -> None:
    recommender = LLMRecommender(
        tiny_world.model, make_task(tiny_world.catalog, tiny_world.items), Decoding(normalize="children")
    )
    every = asked_for_every_item(len(recommender.catalog))
    assert np.exp(log_likelihood(recommender, every)).sum() == pytest.approx(1, abs=1e-4)


def test_a_target_without_any_probability_leaves_no_mean() -> None:
    examples = Examples(np.array([0]), Ragged.from_lists([[1]]), Ragged.from_lists([[0]]))
    dataset = SyntheticSource(users=40, items=24).load()
    model = Popularity().fit(dataset.interactions, dataset.catalog)
    found = stated_likelihood(model, examples, samples=20)
    assert found["log_likelihood_interval"] == [found["log_likelihood"]] * 2  # one user, who is always drawn
    model._arrays["log_probability"][0] = -np.inf
    assert stated_likelihood(model, examples, samples=20) == {}


def test_only_a_network_that_learnt_probabilities_states_some() -> None:
    assert SASRec(loss="softmax").log_probabilities
    assert not SASRec(loss="bce").log_probabilities
    assert not SASRec(loss="sampled_softmax").log_probabilities


def test_a_length_penalty_makes_other_numbers_of_them(tiny_world: TinyWorld) -> None:
    task = make_task(tiny_world.catalog, tiny_world.items)
    assert LLMRecommender(tiny_world.model, task).log_probabilities
    assert not LLMRecommender(tiny_world.model, task, Decoding(length_penalty=0.5)).log_probabilities


def test_so_does_that_of_sasrec() -> None:
    dataset = SyntheticSource(users=40, items=24).load()
    model = SASRec(epochs=1, dimensions=8, progress=False).fit(dataset.interactions, dataset.catalog)
    assert np.exp(log_likelihood(model, asked_for_every_item(24))).sum() == pytest.approx(1, abs=1e-4)
