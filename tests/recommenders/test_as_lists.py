"""Lists through the contract of a recommender."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from circle import make_task
from worlds import TinyWorld

from llmrec.data.split import Examples
from llmrec.evaluation.protocol import evaluate
from llmrec.recommenders.as_lists import AsLists
from llmrec.recommenders.base import Recommender
from llmrec.recommenders.llm import Decoding, LLMRecommender
from llmrec.types import Ragged

HISTORIES = Ragged.from_lists([[3], [], [4, 1, 4], [0, 1, 2, 3, 4, 5, 6, 7]])


@pytest.fixture(scope="module")
def model(tiny_world: TinyWorld) -> LLMRecommender:
    return LLMRecommender(tiny_world.model, make_task(tiny_world.catalog, tiny_world.items), Decoding(beams=8))


def test_the_best_list_comes_as_a_ranking(model: LLMRecommender) -> None:
    own, exclude = np.array([2, 4, 6, 8, 11, 12, 17], np.int32), Ragged.from_lists([[2], [], [11], []])
    lists = AsLists(model)
    found = lists.recommend(HISTORIES, 3, candidates=lists.prepare_candidates(own), exclude=exclude)
    expected = model.recommend_lists(HISTORIES, 3, candidates=own, exclude=exclude)
    np.testing.assert_array_equal(found.rows, expected.rows[:, 0])
    np.testing.assert_allclose(found.scores, np.repeat(expected.scores, 3, 1), atol=1e-4)
    np.testing.assert_array_equal(found.exact, expected.exact)
    few = lists.recommend(HISTORIES, 3, candidates=np.array([4, 9], np.int32))
    assert np.isinf(few.scores[few.rows < 0]).all()
    assert (few.rows[2] >= 0).sum() == 1


def test_it_is_evaluated_as_everything_else(model: LLMRecommender) -> None:
    """Against several targets: NDCG whose ideal holds as many hits, by hand."""
    lists = model.recommend_lists(HISTORIES, 3).rows[:, 0]
    targets = Ragged.from_lists([lists[0][[2, 0]], [lists[1][1]], [19 if 19 not in lists[2] else 18], lists[3]])
    examples = Examples(np.arange(4, dtype=np.int32), HISTORIES, targets)
    found = evaluate(AsLists(model), examples, ks=[3], metrics=["ndcg", "recall"], progress=False)
    two = (1 + 0.5) / (1 + 1 / np.log2(3))
    np.testing.assert_allclose(found.per_example["ndcg@3"], [two, 1 / np.log2(3), 0, 1])
    np.testing.assert_allclose(found.per_example["recall@3"], [1, 1, 0, 1])
    assert (found.invalid, found.duplicates, found.excluded_returned, found.unfilled) == (0, 0, 0, 0)


def test_what_it_saves_is_the_model(model: LLMRecommender, tmp_path: Path) -> None:
    AsLists(model).save_pretrained(tmp_path / "model")
    loaded = Recommender.from_pretrained(tmp_path / "model")
    assert isinstance(loaded, LLMRecommender)
    np.testing.assert_array_equal(loaded.recommend(HISTORIES, 3).rows, model.recommend(HISTORIES, 3).rows)
