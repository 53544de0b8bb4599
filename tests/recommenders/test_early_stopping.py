"""Validation questions: nothing of them is left in train, and the NDCG is that of the evaluation."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest
from contracts.recommender_contract import toy_world
from numpy.typing import NDArray
from recommenders.letters import events

from llmrec.data.interactions import Interactions
from llmrec.evaluation.protocol import evaluate
from llmrec.recommenders.early_stopping import Questions
from llmrec.recommenders.markov import Markov
from llmrec.recommenders.scoring import ScoringRecommender
from llmrec.types import Ragged


def test_what_is_held_out_is_gone_from_train() -> None:
    train = events(*["abcd"] * 25, "ab", "a")
    left, questions = Questions.held_out(train, most=100, seed=3)
    assert len(questions.targets) == 3  # a tenth of 25, rounded up; two events or one are too few
    assert questions.targets.tolist() == [3, 3, 3]
    assert [history.tolist() for history in questions.histories] == [[0, 1, 2]] * 3
    assert sorted(left.histories.lengths.tolist()) == [1, 2] + [3] * 3 + [4] * 22
    again = Questions.held_out(train, most=100, seed=3)[0]
    assert again.table.equals(left.table)
    assert len(Questions.held_out(train, most=2, seed=0)[1].targets) == 2


def test_there_may_be_nobody_to_ask() -> None:
    train = events("ab", "a")
    left, questions = Questions.held_out(train, most=5, seed=0)
    assert len(questions.targets) == 0
    assert left.table.equals(train.table)


class Arbitrary(ScoringRecommender):
    """No two items are scored alike, and the last item of the history decides."""

    kind: ClassVar[str] = "arbitrary"

    def learn(self, train: Interactions) -> dict[str, NDArray[Any]]:
        size = len(train.items)
        return {"scores": np.random.default_rng(1).permutation(size * size).reshape(size, size).astype(np.float32)}

    def score(self, histories: Ragged) -> NDArray[np.float32]:
        return self._arrays["scores"][[history[-1] for history in histories]]


def test_its_ndcg_is_that_of_the_evaluation() -> None:
    world = toy_world()
    recommender = Arbitrary().fit(world.split.train, world.catalog)
    found = Questions.of(world.split.valid, 100, seed=0).ndcg(recommender.score)
    expected = evaluate(recommender, world.split.valid, (10,), progress=False).metrics["ndcg@10"]
    assert found == pytest.approx(expected)
    assert 0 < found < 1


def test_items_scored_alike_stand_before_the_target() -> None:
    world = toy_world()
    questions = Questions.of(world.split.valid, 100, seed=0)
    assert questions.ndcg(lambda part: np.zeros((len(part), len(world.catalog)), np.float32)) == 0


def test_batches_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    world = toy_world()
    score = Markov().fit(world.split.train, world.catalog).score
    whole = Questions.of(world.split.valid, 100, seed=0).ndcg(score)
    monkeypatch.setattr("llmrec.recommenders.early_stopping.USERS_AT_ONCE", 5)
    assert Questions.of(world.split.valid, 100, seed=0).ndcg(score) == pytest.approx(whole)
