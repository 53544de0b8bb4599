"""A pruned recommender gives the same lists and scores, from a smaller folder."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from byte_pairs import byte_level
from circle import make_task
from worlds import TinyWorld, make_tiny_model

from llmrec.cli import main
from llmrec.errors import ArtifactError
from llmrec.indexes.item_tokenizer import ItemTokenizer
from llmrec.recommenders.llm import Decoding, LLMRecommender
from llmrec.recommenders.pruning import keep_rows, pruned
from llmrec.tasks.next_item import NextItemTask
from llmrec.tasks.template import PromptTemplate

TITLES = "the {% for item in history %}{{ item.title }}{{ item.code }}{% endfor %}"
HISTORIES = [[], [3], [1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7], list(range(12))]


def recommender(world: TinyWorld, template: str | None, **changes: object) -> LLMRecommender:
    """With a vocabulary of which most words are not needed."""
    items = ItemTokenizer.bind(byte_level(), world.index)
    model = make_tiny_model(len(items.tokenizer) + 7, **changes)  # rows that belong to no token, as many models have
    task = make_task(world.catalog, items)
    if template is not None:
        task = NextItemTask(PromptTemplate(template), world.catalog, items, max_history=10)
    return LLMRecommender(model, task, Decoding(beams=8))


@pytest.mark.parametrize("template", [None, TITLES], ids=["codes", "titles"])
@pytest.mark.parametrize("tied", [True, False])
def test_lists_and_scores_are_the_same(tiny_world: TinyWorld, template: str | None, tied: bool) -> None:
    whole = recommender(tiny_world, template, tie_word_embeddings=tied)
    before, size = whole.recommend(HISTORIES, 5), whole.model.num_parameters()
    small = pruned(LLMRecommender(copy.deepcopy(whole.model), whole.task, whole.decoding))
    after = small.recommend(HISTORIES, 5)
    assert (after.rows == before.rows).all()
    np.testing.assert_array_equal(after.scores, before.scores)
    rows = small.model.get_input_embeddings().weight.shape[0]
    assert rows == len(small.task.items.tokenizer) == small.model.config.vocab_size < len(whole.task.items.tokenizer)
    assert small.model.num_parameters() < size
    assert small.model.config.pad_token_id == small.task.items.tokenizer.pad_token_id


def test_the_verb_makes_an_ordinary_folder(
    tiny_world: TinyWorld, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = recommender(tiny_world, TITLES)
    whole.save_pretrained(tmp_path / "whole")
    (tmp_path / "whole" / "recipe.yaml").write_text("name: whole\n")
    assert main(["prune", str(tmp_path / "whole"), str(tmp_path / "small")]) == 0
    assert "rows" in capsys.readouterr().out
    small = LLMRecommender.from_pretrained(tmp_path / "small", device="cpu")
    before, after = (each.recommend(HISTORIES, 5) for each in (whole, small))
    assert (after.rows == before.rows).all()
    np.testing.assert_allclose(after.scores, before.scores, atol=1e-6)
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("small", "whole")]
    assert sizes[0] < sizes[1]
    assert (tmp_path / "small" / "recipe.yaml").read_text() == "name: whole\n"


def test_new_items_with_unknown_words_can_be_added(tiny_world: TinyWorld) -> None:
    """Whatever a prompt says later, it can be written."""
    small = pruned(recommender(tiny_world, TITLES))
    ids = small.task.items.encode_text("zebra ☃ 漢字")
    assert max(ids) < small.model.get_input_embeddings().weight.shape[0]
    assert small.task.items.tokenizer.decode(ids) == "zebra ☃ 漢字"


def test_scores_over_the_vocabulary_are_refused(tiny_world: TinyWorld) -> None:
    whole = recommender(tiny_world, None)
    whole.decoding = Decoding(normalize="vocab")
    with pytest.raises(ArtifactError, match="'vocab'"):
        pruned(whole)


def test_a_bias_of_the_head_is_cut_too() -> None:
    model = make_tiny_model(30, tie_word_embeddings=False)
    model.lm_head = torch.nn.Linear(32, 30, bias=True)
    bias = model.lm_head.bias.detach().clone()
    keep_rows(model, np.array([1, 4, 29]))
    assert torch.equal(model.get_output_embeddings().bias, bias[[1, 4, 29]])
