"""Sampled ranking: what is drawn, that every model is asked alike, and that a result says how it was measured."""

from __future__ import annotations

import logging

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmrec.data.catalog import Catalog
from llmrec.data.interactions import Interactions
from llmrec.data.split import Examples, leave_one_out
from llmrec.data.vocabulary import Vocabulary
from llmrec.evaluation.protocol import evaluate
from llmrec.evaluation.sampled import SampledRanking
from llmrec.recommenders.popularity import Popularity
from llmrec.types import Ragged

SIZE = 40


def questions(count: int, seed: int = 0) -> Examples:
    random = np.random.default_rng(seed)
    lists = [random.permutation(SIZE)[: random.integers(2, 12)].tolist() for _ in range(count)]
    histories, targets = Ragged.from_lists([one[:-1] for one in lists]), Ragged.from_lists([one[-1:] for one in lists])
    return Examples(np.arange(count, dtype=np.int32), histories, targets)


@given(st.integers(1, 60), st.integers(0, 3), st.booleans())
def test_targets_and_distinct_items_that_are_in_no_history(negatives: int, seed: int, weighted: bool) -> None:
    asked = questions(8, seed)
    weights = np.arange(1.0, SIZE + 1) if weighted else None
    found = SampledRanking(negatives, seed, weights).candidates(asked, SIZE)
    for history, target, among in zip(asked.histories, asked.targets, found, strict=True):
        assert len(set(among.tolist())) == len(among)
        assert target[0] in among
        assert not set(among.tolist()) & set(history.tolist())
        assert len(among) == 1 + min(negatives, SIZE - 1 - len(history))


def test_a_question_is_drawn_for_alike_in_every_batch_and_for_every_model() -> None:
    asked, ranking = questions(10), SampledRanking(5, seed=3)
    whole = ranking.candidates(asked, SIZE)
    part = ranking.candidates(asked.take(np.arange(4, 10)), SIZE, first=4)
    assert [one.tolist() for one in part] == [one.tolist() for one in list(whole)[4:]]
    other = SampledRanking(5, seed=4).candidates(asked, SIZE)
    assert [one.tolist() for one in other] != [one.tolist() for one in whole]


def test_weights_are_the_shares_of_what_is_drawn() -> None:
    asked = Examples(np.zeros(4000, np.int32), Ragged.from_lists([[0]] * 4000), Ragged.from_lists([[1]] * 4000))
    weights = np.array([5.0, 5.0, 6.0, 3.0, 1.0, 0.0])
    drawn = SampledRanking(1, 0, weights).candidates(asked, 6).values.reshape(-1, 2)[:, 1]
    shares = np.bincount(drawn, minlength=6) / len(drawn)
    assert shares == pytest.approx([0, 0, 0.6, 0.3, 0.1, 0], abs=0.03)
    assert shares[5] == 0


def world() -> tuple[Catalog, Interactions]:
    random = np.random.default_rng(1)
    names = [f"i{row}" for row in range(SIZE)]
    catalog = Catalog(pa.table({"item_id": names, "title": names}))
    items = np.concatenate([random.permutation(SIZE)[:6] for _ in range(60)])
    users = np.repeat(np.arange(60), 6)
    taken = Interactions.from_columns(
        pa.array([f"u{user}" for user in users]),
        pa.array([names[item] for item in items]),
        np.tile(np.arange(6), 60),
        Vocabulary(names),
    )
    return catalog, taken


def test_an_evaluation_ranks_among_what_was_drawn_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    catalog, taken = world()
    split = leave_one_out(taken)
    model = Popularity().fit(split.train, catalog)
    full = evaluate(model, split.test, ks=(5,), progress=False, split=split.protocol)
    assert not caplog.records
    ranking = SampledRanking(9, 0)
    with caplog.at_level(logging.WARNING):
        found = evaluate(model, split.test, ks=(5, 10), progress=False, batch_size=7, sampled=ranking)
    assert "sampled ranking" in caplog.text
    assert "SAMPLED ranking among 9 items drawn uniformly (seed 0) beside the targets, of 40 items" in found.protocol
    assert "full ranking over 40 items" in full.protocol
    assert found.metrics["hr@10"] == 1.0  # ten candidates, one of them right
    assert found.metrics["hr@5"] > full.metrics["hr@5"]
    among = ranking.candidates(split.test, SIZE)
    for rows, allowed in zip(found.rows, among, strict=True):
        assert set(rows.tolist()) == set(allowed.tolist())
