"""The score of a given item is the one that it has in a list; an answer has the probability that the model gives it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from worlds import TinyWorld, make_tiny_tokenizer, make_tiny_world

from llmrec.data.interactions import Interactions
from llmrec.data.judgements import Judgements
from llmrec.data.split import leave_one_out
from llmrec.evaluation.item_scores import ask, item_scores
from llmrec.recommenders.base import Recommender
from llmrec.recommenders.ease import EASE
from llmrec.recommenders.llm import LLMRecommender
from llmrec.recommenders.popularity import Popularity
from llmrec.sources.synthetic import SyntheticSource
from llmrec.tasks.choice import ChoiceTask
from llmrec.tasks.next_item import NextItemTask
from llmrec.tasks.template import PromptTemplate
from llmrec.types import Ragged

HISTORIES = Ragged.from_lists([[3, 5], [1], [], [7, 2, 6, 4]])
ITEMS = np.array([3, 2, 11, 9], np.int32)  # the first is in its history


@pytest.fixture(scope="module")
def world() -> TinyWorld:
    return make_tiny_world()


def recommenders(world: TinyWorld) -> list[Recommender]:
    data = SyntheticSource(users=40, items=20, events=6).load()
    train: Interactions = leave_one_out(data.interactions).train
    source = "Items:{% for item in history %}{{ item.code }}{% endfor %}"
    task = NextItemTask(PromptTemplate(source), world.catalog, world.items)
    return [
        Popularity().fit(train, data.catalog),
        EASE().fit(train, data.catalog),
        LLMRecommender(world.model, task),
    ]


@pytest.mark.parametrize("which", range(3))
def test_a_score_is_that_of_the_list(world: TinyWorld, which: int) -> None:
    recommender = recommenders(world)[which]
    everything = recommender.recommend(HISTORIES, 20, exclude_seen=False)
    found = item_scores(recommender, HISTORIES, ITEMS)
    for number, item in enumerate(ITEMS):
        place = everything.rows[number].tolist().index(item)
        assert found[number] == pytest.approx(everything.scores[number, place], abs=1e-4)


def test_probabilities_are_those_of_the_whole_head(world: TinyWorld) -> None:
    source = "{% for item in history %}{{ item.title }}={{ item.value }};{% endfor %}{{ asked.title }}?"
    task = ChoiceTask(PromptTemplate(source), world.catalog, make_tiny_tokenizer(), ("N", "Y", "M"))
    values = np.array([1, 2, 3, 4, 5, 1, 2], np.float32)
    judgements = Judgements(np.arange(4, dtype=np.int32), HISTORIES, ITEMS, np.zeros(4, np.float32), values)
    found = ask(world.model, task, judgements, batch_size=3, progress=False)
    assert found.probabilities.shape == (4, 3)
    np.testing.assert_allclose(found.probabilities.sum(1), 1, atol=1e-6)
    of_example = [values[:2], values[2:3], values[:0], values[3:]]
    for number in range(4):
        ids = task.prompt(HISTORIES[number], int(ITEMS[number]), of_example[number])
        with torch.inference_mode():
            p = world.model(torch.tensor([ids])).logits[0, -1].double().softmax(-1)[task.answer_ids]
        assert found.mass[number] == pytest.approx(float(p.sum()), rel=1e-4)
        np.testing.assert_allclose(found.probabilities[number], (p / p.sum()).numpy(), rtol=1e-4)
