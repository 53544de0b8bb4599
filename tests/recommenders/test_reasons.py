"""Reasons name what raised a score, and nothing that is not in the history or the list."""

from __future__ import annotations

import numpy as np
import pytest
from circle import QUICK, base_model, circle, make_task
from worlds import TinyWorld

from llmrec.errors import DataError
from llmrec.evaluation.naming import Names
from llmrec.recommenders.llm import LLMRecommender
from llmrec.recommenders.reasons import reasons, sentence
from llmrec.trainers.sft import SFT


@pytest.fixture(scope="module")
def walker(tiny_world: TinyWorld, tmp_path_factory: pytest.TempPathFactory) -> LLMRecommender:
    """Knows that item r + 1 follows item r."""
    split, task = circle(tiny_world.catalog), make_task(tiny_world.catalog, tiny_world.items)
    work = tmp_path_factory.mktemp("walker")
    return SFT(args=QUICK).train(base_model(), task, split.train, split.valid, work, seed=0)[0]


def test_the_item_before_it_is_the_reason_for_the_next(walker: LLMRecommender) -> None:
    size, right = len(walker.catalog), 0
    for start in range(size):
        history = [(start + step) % size for step in range(3)]
        (reason,) = reasons(walker, history, [(start + 3) % size], most=1)
        right += reason.because == ((start + 2) % size,)
    assert right >= 0.6 * size


def test_a_gain_is_what_the_score_loses_without_the_item(walker: LLMRecommender) -> None:
    history, items = np.array([4, 9, 4, 5], np.int32), np.array([6, 1, 17], np.int32)
    found = reasons(walker, history, items, most=4)
    assert [reason.item for reason in found] == items.tolist()
    for reason in found:
        one = np.array([reason.item], np.int32)
        lost = {
            row: float(walker.score([history], one)[0, 0] - walker.score([history[history != row]], one)[0, 0])
            for row in (4, 5, 9)
        }
        speaks_for_it = {row: gain for row, gain in lost.items() if gain > 0}
        assert reason.because == tuple(sorted(speaks_for_it, key=lambda row: -speaks_for_it[row]))
        assert reason.gains == pytest.approx([speaks_for_it[row] for row in reason.because], abs=1e-4)
    few = reasons(walker, history, items, most=1)
    assert [reason.because for reason in few] == [reason.because[:1] for reason in found]


def test_no_older_item_comes_in_for_one_that_is_left_out(walker: LLMRecommender) -> None:
    history = np.arange(20, dtype=np.int32)
    shown = history[-walker.task.max_history :]
    for longer, shorter in zip(reasons(walker, history, [0, 1]), reasons(walker, shown, [0, 1]), strict=True):
        assert longer == shorter
        assert set(longer.because) <= set(shown.tolist())


def test_only_titles_of_the_history_and_the_list_are_named(walker: LLMRecommender) -> None:
    rng, names = np.random.default_rng(0), Names(walker.catalog)
    for _ in range(20):
        history = rng.integers(0, len(walker.catalog), rng.integers(0, 14)).astype(np.int32)
        listed = walker.recommend([history], 5).rows[0]
        for reason in reasons(walker, history, listed):
            assert names.foreign(reason.text, [*history.tolist(), *listed.tolist()]) == []
            assert names.foreign(reason.text, [reason.item, *reason.because]) == []
            assert walker.catalog.title(reason.item) in reason.text
            assert len(set(reason.because)) == len(reason.because) <= 2


def test_the_wording(walker: LLMRecommender) -> None:
    catalog = walker.catalog
    assert sentence(catalog, 4, [1, 2]) == "“Title 4”, because you took “Title 1” and “Title 2”."
    assert sentence(catalog, 4, [1]) == "“Title 4”, because you took “Title 1”."
    assert "the whole history" in sentence(catalog, 4, [])


def test_without_a_history_nobody_is_told_what_they_took(walker: LLMRecommender) -> None:
    (reason,) = reasons(walker, [], [3, -1])
    assert (reason.because, reason.gains) == ((), ())
    assert reason.text == "“Title 3” is what this model recommends without a history."
    assert reasons(walker, [1], [-1]) == []


def test_unknown_items_are_refused(walker: LLMRecommender) -> None:
    for history, items in (([3], [99]), ([99], [3]), ([3], [-2])):
        with pytest.raises(DataError, match="the catalog"):
            reasons(walker, history, items)
