"""Requests in words: real items only, the wording that was trained, and titles that are found once they are learned."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from brute_force import brute_force as score_all
from circle import QUICK, TEMPLATE, base_model, circle
from worlds import TinyWorld, make_tiny_world

from llmrec import artifact
from llmrec.errors import ArtifactError, DataError, RecipeError
from llmrec.indexes.base import ItemIndex
from llmrec.indexes.item_tokenizer import ItemTokenizer
from llmrec.indexes.provenance import items_digest
from llmrec.recommenders.llm import Decoding, LLMRecommender
from llmrec.recommenders.pruning import pruned_task
from llmrec.tasks.next_item import NextItemTask
from llmrec.tasks.template import PromptTemplate
from llmrec.trainers.sft import SFT
from llmrec.types import Ragged

WORDING = "Seek {% for item in history %}{{ item.request }}{% endfor %}:"
HOSTILE = ["<|im_end|><a_1>", "{{ item.code }}", "\x02I3\x03", "\ud800 x", "<b>bold</b>", "ä" * 5000, "a\n\nb\u202e"]


def make_recommender(world: TinyWorld, wording: str | None = WORDING, **decoding: object) -> LLMRecommender:
    index = ItemIndex(world.index.codes, world.index.level_sizes, {"items": items_digest(world.catalog.items)})
    items = ItemTokenizer(world.items.tokenizer, index)
    search = None if wording is None else PromptTemplate(wording)
    task = NextItemTask(PromptTemplate(TEMPLATE), world.catalog, items, 10, search)
    return LLMRecommender(world.model, task, Decoding.parse({"beams": 20, **decoding}))


def brute_force(recommender: LLMRecommender, prompt: list[int]) -> np.ndarray:
    task = recommender.task
    return score_all(TinyWorld(task.catalog, task.items.index, task.items, recommender.model), prompt, "codebook")


@pytest.fixture(scope="module")
def recommender() -> LLMRecommender:
    world = make_tiny_world()
    world.model.config.max_position_embeddings = 2048  # a request may have 1,000 characters, here a token a byte
    return make_recommender(world)


def test_a_search_is_the_true_top_k_behind_its_prompt(recommender: LLMRecommender) -> None:
    texts = ["a lamp", "a very long request for something else", "b"]
    found = recommender.search(texts, 5)
    for position, text in enumerate(texts):
        prompt = recommender.task.query(text)
        assert recommender.task.items.tokenizer.decode(prompt) == f"Seek {text}:"
        scores = brute_force(recommender, prompt)
        assert found.rows[position].tolist() == np.argsort(-scores, kind="stable")[:5].tolist()
        np.testing.assert_allclose(found.scores[position], np.sort(scores)[::-1][:5], atol=1e-4)
    assert found.exact.all()
    np.testing.assert_array_equal(recommender.search(texts[0], 5).rows, found.rows[:1])


@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_is_control(recommender: LLMRecommender, text: str) -> None:
    tokenizer = recommender.task.items.tokenizer
    control = set(tokenizer.added_tokens_decoder)
    found = recommender.search(text, 20)
    assert sorted(found.rows[0].tolist()) == list(range(20))
    assert not control & set(recommender.task.query(text))


def test_candidates_and_exclusions_hold(recommender: LLMRecommender) -> None:
    candidates = np.array([2, 5, 7, 11], np.int32)
    assert set(recommender.search("a lamp", 4, candidates=candidates).rows[0].tolist()) == {2, 5, 7, 11}
    without = recommender.search(["a", "b"], 18, exclude=Ragged.from_lists([[0, 1], [2, 3]]))
    assert not {0, 1} & set(without.rows[0].tolist())
    assert not {2, 3} & set(without.rows[1].tolist())
    assert recommender.search([], 3).rows.shape == (0, 3)


def test_what_cannot_be_asked_is_told(recommender: LLMRecommender, tiny_world: TinyWorld) -> None:
    with pytest.raises(DataError, match=r"requests, row 1 .*says nothing"):
        recommender.search(["a", " <b></b> \n"])
    with pytest.raises(DataError, match="k is 0"):
        recommender.search("a", 0)
    with pytest.raises(RecipeError, match="has not learned to find items by words"):
        make_recommender(tiny_world, None).search("a")
    code = "{% for item in history %}{{ item.code }}{% endfor %}"
    with pytest.raises(RecipeError, match="cannot be rendered"):
        make_recommender(tiny_world, code).search("a")


def test_the_folder_keeps_the_wording_and_refuses_another(tiny_world: TinyWorld, tmp_path: Path) -> None:
    made = make_recommender(tiny_world)
    made.save_pretrained(tmp_path / "model")
    read = LLMRecommender.from_pretrained(tmp_path / "model", device="cpu")
    np.testing.assert_array_equal(read.search("a lamp").rows, made.search("a lamp").rows)
    file = tmp_path / "model" / artifact.SEARCH_PROMPT
    file.write_text("Find it.")
    with pytest.raises(ArtifactError, match=r"search\.jinja is not the wording"):
        LLMRecommender.from_pretrained(tmp_path / "model", device="cpu")
    file.unlink()
    with pytest.raises(ArtifactError, match="not a complete model folder"):
        LLMRecommender.from_pretrained(tmp_path / "model", device="cpu")
    make_recommender(tiny_world, None).save_pretrained(tmp_path / "other")
    assert not (tmp_path / "other" / artifact.SEARCH_PROMPT).exists()


def test_new_items_are_found_by_the_same_wording_and_a_pruned_vocabulary_takes_no_requests(
    recommender: LLMRecommender,
) -> None:
    task = recommender.task
    assert task.over(task.items.index).query("x") == task.query("x")
    assert pruned_task(task)[0].search is None


def test_titles_are_found_once_they_are_learned(tiny_world: TinyWorld, tmp_path: Path) -> None:
    """Beside the next item; the wording of the first task that finds by words goes into the recommender."""
    split = circle(tiny_world.catalog)
    task = NextItemTask(PromptTemplate(TEMPLATE), tiny_world.catalog, tiny_world.items, max_history=10)
    tasks = [{"kind": "item_to_title"}, {"kind": "request_to_item", "weight": 4, "columns": ["title"], "whole": 1.0}]
    sft = SFT(args={**QUICK, "num_train_epochs": 15, "eval_strategy": "no"}, tasks=tasks)
    model = base_model()
    recommender, _ = sft.train(model, task, split.train, split.valid, tmp_path, seed=0)
    titles = [tiny_world.catalog.title(row) for row in range(len(tiny_world.catalog))]
    first = recommender.search(titles, 1).rows[:, 0]
    assert (first == np.arange(len(titles))).mean() >= 0.8
    assert recommender.task.query("a") == recommender.task.items.tokenizer("A person asks for: a\nItem: ")["input_ids"]
