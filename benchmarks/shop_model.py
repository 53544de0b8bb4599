"""SmolLM2-135M as a recommender of random items, without training: for measurements where only computing counts."""

from __future__ import annotations

import math
import random

import numpy as np
import pyarrow as pa

from llmrec.base_models import load_model
from llmrec.data.catalog import Catalog
from llmrec.engines.vllm import CPU_BLOCK
from llmrec.indexes.base import ItemIndex
from llmrec.indexes.item_tokenizer import ItemTokenizer
from llmrec.indexes.provenance import items_digest
from llmrec.recommenders.llm import Decoding, LLMRecommender
from llmrec.tasks.next_item import NextItemTask
from llmrec.tasks.template import PromptTemplate
from llmrec.trainers.item_rows import add_item_rows

MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
WORDS = (
    "red blue green small large old new fast quiet bright lamp chair novel song drill coat phone cup rug kite".split()
)


def make_model(
    name: str,
    items: int,
    rng: np.random.Generator,
    beams: int = 20,
    sizes: tuple[int, ...] = (64, 128),
    max_history: int = 10,
) -> LLMRecommender:
    """The pretrained model with random codes."""
    model, tokenizer = load_model(name)
    chosen = random.Random(int(rng.integers(2**31))).sample(range(math.prod(sizes)), items)
    codes = np.stack(np.unravel_index(chosen, sizes), 1).astype(np.int32)
    titles = [" ".join(rng.choice(WORDS, 3)) for _ in range(items)]
    catalog = Catalog(pa.table({"item_id": [f"i{row}" for row in range(items)], "title": titles}))
    bound = ItemTokenizer.bind(tokenizer, ItemIndex(codes, sizes, {"items": items_digest(catalog.items)}))
    add_item_rows(model, bound, catalog, "text", seed=0)
    return LLMRecommender(model, aligned_task(catalog, bound, max_history), Decoding(beams=beams))


def aligned_task(catalog: Catalog, items: ItemTokenizer, max_history: int) -> NextItemTask:
    """An instruction that fills whole blocks of vLLM's cache on CPUs, so that all prompts share them."""
    words = "Items taken in order"
    while True:
        template = PromptTemplate(words + ":{% for item in history %}{{ item.code }}{% endfor %}")
        task = NextItemTask(template, catalog, items, max_history)
        if len(task.prompt([])) % CPU_BLOCK == 0:
            return task
        words += " next"


def make_histories(count: int, items: int, rng: np.random.Generator, longest: int = 10) -> list[np.ndarray]:
    """One to `longest` items each."""
    return [rng.integers(0, items, rng.integers(1, longest + 1)).astype(np.int32) for _ in range(count)]
