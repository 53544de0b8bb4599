"""An evaluation that is described says how sure it is and where it comes from, the same every time."""

from __future__ import annotations

import doctest
import json

import numpy as np
import pytest

from llmrec.data.catalog import Catalog
from llmrec.data.split import Split, leave_one_out
from llmrec.evaluation import beyond_accuracy
from llmrec.evaluation.beyond_accuracy import ItemFacts, concentration, coverage
from llmrec.evaluation.describe import describe
from llmrec.evaluation.protocol import Evaluation, evaluate
from llmrec.recommenders.markov import Markov
from llmrec.recommenders.popularity import Popularity
from llmrec.sources.synthetic import SyntheticSource

World = tuple[Catalog, Split]


@pytest.fixture(scope="module")
def world() -> World:
    dataset = SyntheticSource(users=150, items=40).load()
    return dataset.catalog, leave_one_out(dataset.interactions)


def described(world: World, recommender: Markov | Popularity) -> Evaluation:
    catalog, split = world
    result = evaluate(recommender.fit(split.train, catalog), split.test, (1, 5), split=split.protocol, progress=False)
    return describe(result, split.test, ItemFacts.of(split.train, catalog, "category"), samples=200)


def test_docstring_examples_run() -> None:
    assert doctest.testmod(beyond_accuracy).failed == 0


def test_calibration_is_measured_where_probabilities_are_stated(world: World) -> None:
    catalog, split = world
    result = evaluate(Popularity().fit(split.train, catalog), split.test, (5,), progress=False)
    facts = ItemFacts.of(split.train, catalog)
    assert describe(result, split.test, facts, samples=20).calibration == {}
    stated = describe(result, split.test, facts, samples=20, log_probabilities=True).calibration
    assert sum(stated["counts"]) == 5 * 150
    gap = [abs(said - taken) for said, taken in zip(stated["stated"], stated["taken"], strict=True)]
    assert stated["error"] == pytest.approx(np.average(gap, weights=stated["counts"]), abs=1e-5)
    assert json.loads(json.dumps(stated)) == stated


def test_every_mean_has_its_interval(world: World) -> None:
    result = described(world, Markov())
    assert list(result.intervals) == list(result.metrics)
    for name, (low, high) in result.intervals.items():
        assert low < result.metrics[name] < high


def test_slices_add_up_to_the_whole(world: World) -> None:
    result = described(world, Markov())
    assert {"history_length", "target_popularity", "category", "time_gap"} <= set(result.slices)
    for entries in result.slices.values():
        assert sum(entry["examples"] for entry in entries) == 150
        assert list(entries[0]["metrics"]) == ["hr@5", "ndcg@5", "mrr@5"]
        whole = sum(entry["examples"] * entry["metrics"]["ndcg@5"] for entry in entries) / 150
        assert whole == pytest.approx(result.metrics["ndcg@5"], abs=1e-5)


def test_popularity_shows_in_what_it_recommends(world: World) -> None:
    markov, popular = described(world, Markov()).popularity, described(world, Popularity()).popularity
    assert set(markov) == {"novelty", "popularity_lift", "group_diversity", "coverage", "concentration"}
    assert popular["popularity_lift"] > markov["popularity_lift"]
    assert popular["novelty"] < markov["novelty"]
    assert popular["coverage"] < markov["coverage"] <= 1
    assert popular["concentration"] > markov["concentration"] > 0


def test_the_same_evaluation_is_described_the_same_and_survives_json(world: World) -> None:
    first, second = described(world, Markov()), described(world, Markov())
    assert first.intervals == second.intervals
    assert first.slices == second.slices
    assert first.popularity == second.popularity
    assert Evaluation.from_json(first.to_json()) == first
    assert "NaN" not in json.dumps(first.to_dict())


def test_coverage_and_concentration_by_hand() -> None:
    rows = np.array([[0, 1], [0, 2], [0, -1], [7, 9]], np.int32)  # 9 is no item of a catalog of 8
    assert coverage(rows, 8) == 0.5
    counts = np.array([0, 0, 0, 0, 1, 1, 1, 3])  # ascending; every pair of items once, |difference| summed
    pairs = np.abs(counts[:, None] - counts[None, :]).sum() / 2
    assert concentration(rows, 8) == pytest.approx(pairs / (8 * counts.sum()))
    assert np.isnan(concentration(np.full((2, 2), -1), 8))
