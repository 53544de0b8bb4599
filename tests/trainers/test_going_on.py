"""A model goes on learning after items were added: each is then scored by its own code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from circle import QUICK, base_model, circle, make_task
from worlds import TinyWorld, make_tiny_tokenizer

from llmrec.data.catalog import Catalog
from llmrec.errors import RecipeError
from llmrec.indexes.base import ItemIndex
from llmrec.indexes.item_tokenizer import ItemTokenizer
from llmrec.indexes.provenance import items_digest
from llmrec.indexes.rqkmeans import RQKMeansIndex
from llmrec.recommenders.llm import LLMRecommender
from llmrec.sources.synthetic import SyntheticSource
from llmrec.trainers.item_rows import add_item_rows
from llmrec.trainers.sft import SFT

OLD, ALL = 20, 24
HISTORY = np.array([3, 4], np.int32)


def shop() -> Catalog:
    return SyntheticSource(items=ALL, categories=3, events=8).load().catalog


def trained(folder: Path) -> LLMRecommender:
    """A model of the first items alone."""
    catalog = Catalog(shop().table.slice(0, OLD))
    split = circle(catalog)
    index = RQKMeansIndex(encoder={"kind": "tfidf"}, levels=[4, 8], collisions="nearest").build(catalog, split.train)
    task = make_task(catalog, ItemTokenizer.bind(make_tiny_tokenizer(), index))
    sft = SFT(args={**QUICK, "num_train_epochs": 2})
    return sft.train(base_model(), task, split.train, split.valid, folder, seed=0)[0]


def own_code(recommender: LLMRecommender, row: int) -> float:
    """The log-probability of the item's own code, level by level, after `HISTORY`."""
    items, prompt = recommender.task.items, recommender.task.prompt(HISTORY)
    code, total = items.encode(row), 0.0
    with torch.inference_mode():
        logits = recommender.model(torch.tensor([prompt + code])).logits[0]
    for level, token in enumerate(code):
        book = items.codebooks[level]
        total += float(logits[len(prompt) - 1 + level, torch.from_numpy(book)].log_softmax(-1)[token - book[0]])
    return total


def scores(recommender: LLMRecommender) -> np.ndarray:
    """Of every item, in row order."""
    found = recommender.recommend([HISTORY], k=len(recommender.catalog), exclude_seen=False)
    return found.scores[0][np.argsort(found.rows[0])]


@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_a_training_on_all_items_ends_the_stand_ins(tmp_path: Path, tuning: str) -> None:
    first = trained(tmp_path / "first")
    grown = first.add_items(Catalog(shop().table.slice(OLD)))
    before = grown.task.items.index
    assert before.stand_ins is not None
    own = [own_code(grown, row) for row in range(ALL)]
    assert scores(grown)[:OLD] == pytest.approx(own[:OLD], abs=1e-4)
    assert (np.abs(scores(grown)[OLD:] - own[OLD:]) > 1e-3).all()  # as their stand-ins

    split = circle(grown.catalog)
    sft = SFT(init="keep", tuning=tuning, args={**QUICK, "num_train_epochs": 2})
    again, log = sft.train(grown.model, grown.task, split.train, split.valid, tmp_path / "again", seed=0)
    own = [own_code(again, row) for row in range(ALL)]
    assert scores(again) == pytest.approx(own, abs=1e-4)
    index = again.task.items.index
    assert index.stand_ins is None
    np.testing.assert_array_equal(index.codes, before.codes)
    assert index.digest == ItemIndex(before.codes, before.level_sizes).digest != before.digest
    assert index.provenance == before.provenance
    assert (index.provenance["items"], index.provenance["added"]) == (items_digest(grown.catalog.items), ALL - OLD)
    assert log["best"] is not None

    again.save_pretrained(tmp_path / "model")
    loaded = LLMRecommender.from_pretrained(tmp_path / "model", device="cpu")
    assert scores(loaded) == pytest.approx(own, abs=1e-4)
    more = loaded.add_items(Catalog(shop().take(np.array([0], np.int32)).table.set_column(0, "item_id", [["new"]])))
    assert more.task.items.index.stand_ins is not None
    assert len(more.task.items.index.stand_ins) == 1  # the items of the last time need none


def test_rows_are_kept_where_there_are_some(tiny_world: TinyWorld) -> None:
    embeddings = tiny_world.model.get_input_embeddings().weight.detach().clone()
    add_item_rows(tiny_world.model, tiny_world.items, tiny_world.catalog, "keep", seed=0)
    assert torch.equal(tiny_world.model.get_input_embeddings().weight, embeddings)
    with pytest.raises(RecipeError, match=r"258 rows for 270 tokens.*Set init: text"):
        add_item_rows(base_model(), tiny_world.items, tiny_world.catalog, "keep", seed=0)
