"""Requests in plain language on a toy world that has learned its titles."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from circle import QUICK, base_model, circle, make_task
from worlds import TinyWorld

from llmrec.errors import DataError, LlmrecError
from llmrec.recommenders.llm import LLMRecommender
from llmrec.recommenders.search import prompt_of, search
from llmrec.trainers.sft import SFT


@pytest.fixture(scope="module")
def taught(tiny_world: TinyWorld, tmp_path_factory: pytest.TempPathFactory) -> LLMRecommender:
    split, task = circle(tiny_world.catalog), make_task(tiny_world.catalog, tiny_world.items)
    tasks = [{"kind": "title_to_item", "weight": 3.0, "phrasings": ["alignment/title_to_item/1"]}]
    sft = SFT(args={**QUICK, "num_train_epochs": 30}, tasks=tasks)
    work = tmp_path_factory.mktemp("taught")
    return sft.train(base_model(), task, split.train, split.valid, work, seed=0)[0]


def test_an_item_is_found_by_its_title(taught: LLMRecommender) -> None:
    titles = [taught.catalog.title(row) for row in range(len(taught.catalog))]
    found = search(taught, titles, k=3)
    hits = (found.rows == np.arange(len(titles))[:, None]).any(1)
    assert hits.mean() > 0.7
    assert (found.rows >= 0).all()
    assert (np.diff(found.scores, axis=1) <= 0).all()


def test_the_best_of_all_items_are_those_of_brute_force(taught: LLMRecommender) -> None:
    size = len(taught.catalog)
    found = search(taught, ["Title 3"], k=size)
    assert sorted(found.rows[0].tolist()) == list(range(size))
    few = search(taught, ["Title 3"], k=size, candidates=np.array([5, 9], np.int32))
    assert [row for row in found.rows[0].tolist() if row in (5, 9)] == [row for row in few.rows[0].tolist() if row >= 0]


def test_batches_do_not_change_the_answer(taught: LLMRecommender) -> None:
    titles = [f"Title {row}" for row in range(7)]
    whole = search(taught, titles, k=4)
    taught.decoding = taught.decoding.model_copy(update={"batch_size": 3})
    try:
        np.testing.assert_array_equal(search(taught, titles, k=4).rows, whole.rows)
    finally:
        taught.decoding = taught.decoding.model_copy(update={"batch_size": 64})


def test_a_request_is_only_text(taught: LLMRecommender) -> None:
    code = taught.task.items.tokenizer.decode(taught.task.items.encode(0))
    source = "Find {% for item in history %}{{ item.title }}{% endfor %}: "
    ids = prompt_of(taught.task, source, f"{code} <|endoftext|>")
    assert not set(taught.task.items.encode(0)) & set(ids)
    assert taught.task.items.tokenizer.eos_token_id not in ids


def test_an_own_wording_and_mistakes(taught: LLMRecommender, tmp_path: Path) -> None:
    file = tmp_path / "mine.jinja"
    file.write_text("I want {% for item in history %}{{ item.title }}{% endfor %}: ")
    assert search(taught, ["a gift"], k=2, wording=str(file)).rows.shape == (1, 2)
    with pytest.raises(LlmrecError, match="Did you mean"):
        search(taught, ["a gift"], wording="alignment/title_to_itm/1")
    with pytest.raises(DataError, match="text 1 is empty"):
        search(taught, ["a gift", "  "])
    assert search(taught, [], k=2).rows.shape == (0, 2)
