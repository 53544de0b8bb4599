"""SmolLM2-135M as a recommender of random items, without training: for measurements where only computing counts."""

from __future__ import annotations

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


def make_model(name: str, items: int, rng: np.random.Generator, beams: int = 20) -> LLMRecommender:
    """The pretrained model with random codes on two levels."""
    model, tokenizer = load_model(name)
    sizes = (64, 128)
    codes = np.stack(np.unravel_index(rng.choice(sizes[0] * sizes[1], items, replace=False), sizes), 1).astype(np.int32)
    titles = [" ".join(rng.choice(WORDS, 3)) for _ in range(items)]
    catalog = Catalog(pa.table({"item_id": [f"i{row}" for row in range(items)], "title": titles}))
    bound = ItemTokenizer.bind(tokenizer, ItemIndex(codes, sizes, {"items": items_digest(catalog.items)}))
    add_item_rows(model, bound, catalog, "text", seed=0)
    return LLMRecommender(model, aligned_task(catalog, bound), Decoding(beams=beams))


def aligned_task(catalog: Catalog, items: ItemTokenizer) -> NextItemTask:
    """An instruction that fills whole blocks of vLLM's cache on CPUs, so that all prompts share them."""
    words = "Items taken in order"
    while True:
        template = PromptTemplate(words + ":{% for item in history %}{{ item.code }}{% endfor %}")
        task = NextItemTask(template, catalog, items, 10)
        if len(task.prompt([])) % CPU_BLOCK == 0:
            return task
        words += " next"


def make_histories(count: int, items: int, rng: np.random.Generator) -> list[np.ndarray]:
    """One to ten items each."""
    return [rng.integers(0, items, rng.integers(1, 11)).astype(np.int32) for _ in range(count)]
