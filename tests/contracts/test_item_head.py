"""A language model with an item head keeps the contract of a recommender, whichever way it reads items."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, ClassVar

from circle import QUICK, base_model, make_task
from contracts.recommender_contract import ITEMS, RecommenderContract, ToyWorld
from worlds import make_tiny_tokenizer

from llmrec.indexes.item_tokenizer import ItemTokenizer
from llmrec.indexes.random import RandomIndex
from llmrec.recommenders.base import Recommender
from llmrec.trainers.item_head import ItemHead


class ItemHeadContract(RecommenderContract):
    tolerance = 1e-4
    settings: ClassVar[dict[str, Any]] = {}

    @classmethod
    def make(cls, world: ToyWorld) -> Recommender:
        index = RandomIndex(levels=[4, ITEMS // 4]).build(world.catalog, world.split.train)
        task = make_task(world.catalog, ItemTokenizer.bind(make_tiny_tokenizer(), index))
        args = {**QUICK, "num_train_epochs": 2, "eval_strategy": "no"}
        trainer = ItemHead.parse({"dimensions": 8, "args": args, **cls.settings})
        with tempfile.TemporaryDirectory() as work:
            return trainer.train(base_model(), task, world.split.train, world.split.valid, Path(work), seed=0)[0]


class TestItemHeadContract(ItemHeadContract):
    settings: ClassVar[dict[str, Any]] = {"encoder": {"kind": "tfidf"}}


class TestItemHeadOfVectorsContract(ItemHeadContract):
    settings: ClassVar[dict[str, Any]] = {"encoder": {"kind": "tfidf"}, "history": "vectors"}
