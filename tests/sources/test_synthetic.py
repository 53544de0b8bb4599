"""The toy world is what it says it is: its own probabilities predict it, and popularity does not."""

from __future__ import annotations

import numpy as np
import pytest

from llmrec.data.split import global_temporal, leave_one_out
from llmrec.errors import RecipeError
from llmrec.sources.synthetic import SyntheticSource


def test_same_seed_same_world() -> None:
    first, second = SyntheticSource(users=50, seed=3).load(), SyntheticSource(users=50, seed=3).load()
    assert first.catalog.table.equals(second.catalog.table)
    assert first.interactions.table.equals(second.interactions.table)
    assert not first.interactions.table.equals(SyntheticSource(users=50, seed=4).load().interactions.table)


def test_sizes_are_those_of_the_settings() -> None:
    data = SyntheticSource(users=70, items=45, categories=7, events=9).load()
    assert (len(data.interactions.users), len(data.catalog)) == (70, 45)
    lengths = data.interactions.histories.lengths
    assert (lengths.min(), lengths.max()) == (5, 9)
    assert all(len(set(history.tolist())) == len(history) for history in data.interactions.histories)
    assert len(set(data.catalog.table["title"].to_pylist())) == 45
    assert len(set(data.catalog.table["category"].to_pylist())) == 7


def test_the_known_answer_beats_popularity() -> None:
    source = SyntheticSource()
    split, chances = leave_one_out(source.load().interactions), source.transition()
    np.testing.assert_allclose(chances.sum(axis=1), 1)
    popularity = np.bincount(split.train.item_rows, minlength=len(chances)).astype(float)

    def hit_rate(scores_of: object, k: int) -> float:
        hits = 0
        for history, target in zip(split.test.histories, split.test.targets, strict=True):
            scores = scores_of(history).copy()
            scores[history] = -1
            hits += target[0] in np.argsort(-scores, kind="stable")[:k]
        return hits / len(split.test)

    # The partner comes next half the time; ten items of 48 unseen ones would be a hit in 21% of cases by chance.
    assert hit_rate(lambda history: chances[history[-1]], 1) == pytest.approx(0.5, abs=0.08)
    assert hit_rate(lambda history: chances[history[-1]], 10) > 0.8
    assert hit_rate(lambda _: popularity, 10) < 0.35


def test_frequencies_follow_the_stated_probabilities() -> None:
    source = SyntheticSource(users=4000, items=24, categories=4, events=5)
    interactions, counts = source.load().interactions, np.zeros((24, 24))
    walks = interactions.item_rows.reshape(4000, 5)
    np.add.at(counts, (walks[:, 0], walks[:, 1]), 1)
    found, expected = counts / counts.sum(axis=1, keepdims=True), source.transition()
    assert np.abs(found - expected).max() < 0.12  # about 167 first steps from each item: 3 standard deviations
    assert (found.argmax(axis=1) == expected.argmax(axis=1)).all()


def test_titles_tell_the_category() -> None:
    table = SyntheticSource(items=60).load().catalog.table
    kinds: dict[str, set[str]] = {}
    for title, category in zip(table["title"].to_pylist(), table["category"].to_pylist(), strict=True):
        kinds.setdefault(title.split(" ", 1)[1], set()).add(category)
    assert all(len(categories) == 1 for categories in kinds.values())


def test_times_allow_a_temporal_split() -> None:
    split = global_temporal(SyntheticSource().load().interactions)
    assert len(split.valid) > 100
    assert len(split.test) > 100


def test_fingerprint_follows_the_settings() -> None:
    assert SyntheticSource().fingerprint() == SyntheticSource(seed=0).fingerprint()
    assert SyntheticSource().fingerprint() != SyntheticSource(seed=1).fingerprint()


def test_impossible_worlds_are_refused() -> None:
    with pytest.raises(RecipeError, match="twice as many items as events"):
        SyntheticSource.parse({"items": 10, "events": 12})
    with pytest.raises(RecipeError, match="categories"):
        SyntheticSource.parse({"categories": 13})
