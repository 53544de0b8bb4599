"""Fine-tuning where items are written in words: LoRA, and one new row for the mark of an item's end."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from circle import QUICK, base_model, circle, make_task
from worlds import make_tiny_tokenizer

from llmrec.data.catalog import Catalog
from llmrec.data.split import Split
from llmrec.evaluation.protocol import evaluate
from llmrec.indexes.item_tokenizer import ItemTokenizer
from llmrec.indexes.title import TitleIndex
from llmrec.recommenders.llm import LLMRecommender
from llmrec.tasks.next_item import NextItemTask
from llmrec.trainers.sft import SFT

TITLES = [first + second for first in "KLMNP" for second in "aeio"]  # a token a letter
LORA = {"tuning": "lora", "lora": {"r": 16, "lora_alpha": 32}}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[NextItemTask, Split]:
    folder = tmp_path_factory.mktemp("tokenizer")
    make_tiny_tokenizer().save_pretrained(folder)
    catalog = Catalog(pa.table({"item_id": [f"i{row}" for row in range(len(TITLES))], "title": TITLES}))
    split = circle(catalog)
    index = TitleIndex(tokenizer=str(folder)).build(catalog, split.train)
    return make_task(catalog, ItemTokenizer.bind(make_tiny_tokenizer(), index)), split


def train(
    world: tuple[NextItemTask, Split], folder: Path, settings: dict[str, Any], **changes: object
) -> LLMRecommender:
    task, split = world
    sft = SFT.parse({**LORA, **settings, "args": {**QUICK, "learning_rate": 1e-2, **settings.get("args", {})}})
    return sft.train(base_model(**changes), task, split.train, split.valid, folder, seed=0)[0]


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("loss", ["level", "vocab"])
def test_lora_learns_a_circle(world: tuple[NextItemTask, Split], tmp_path: Path, tied: bool, loss: str) -> None:
    settings = {"loss": loss, "args": {"num_train_epochs": 10}}
    recommender = train(world, tmp_path, settings, initializer_range=0.2, tie_word_embeddings=tied)
    found = evaluate(recommender, world[1].test, progress=False)
    assert found.metrics["hr@5"] > 0.6  # about 0.4 by chance: 5 of the 13 unseen items
    assert (found.invalid, found.duplicates, found.excluded_returned) == (0, 0, 0)


@pytest.mark.parametrize("tied", [True, False])
def test_of_the_rows_only_the_mark_s_moves(world: tuple[NextItemTask, Split], tmp_path: Path, tied: bool) -> None:
    few = {"args": {"num_train_epochs": 1}}
    after = train(world, tmp_path, few, tie_word_embeddings=tied).model
    words = base_model(tie_word_embeddings=tied)
    (mark,) = world[0].items.new_token_ids.tolist()
    start = copy.deepcopy(words)
    torch.manual_seed(0)
    start.resize_token_embeddings(mark + 1, mean_resizing=True)
    for part in ("get_input_embeddings", "get_output_embeddings"):
        rows = getattr(after, part)().weight
        assert torch.equal(rows[:mark], getattr(words, part)().weight), part
        assert not torch.equal(rows[mark], getattr(start, part)().weight[mark]), part
    assert not torch.equal(after.model.layers[0].mlp.up_proj.weight, words.model.layers[0].mlp.up_proj.weight)


def test_a_folder_gives_the_same_answers(world: tuple[NextItemTask, Split], tmp_path: Path) -> None:
    recommender = train(world, tmp_path / "work", {"args": {"num_train_epochs": 1}})
    recommender.save_pretrained(tmp_path / "model")
    loaded = LLMRecommender.from_pretrained(tmp_path / "model", device="cpu")
    before, after = (r.recommend(world[1].test.histories, 5) for r in (recommender, loaded))
    assert (before.rows == after.rows).all()
    np.testing.assert_allclose(before.scores, after.scores, atol=1e-5)


def test_a_killed_run_continues_to_the_same_weights(world: tuple[NextItemTask, Split], tmp_path: Path) -> None:
    settings = {"dropout": 0.1, "args": {"num_train_epochs": 3}}
    whole = copy.deepcopy(train(world, tmp_path / "whole", settings).model.state_dict())
    train(world, tmp_path / "cut", settings)
    checkpoints = sorted((tmp_path / "cut").glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    (checkpoints[-1] / "trainer_state.json").unlink()  # as if killed while the last one was being written
    again = train(world, tmp_path / "cut", settings).model.state_dict()
    assert whole.keys() == again.keys()
    assert all(torch.equal(whole[name], again[name]) for name in whole)
