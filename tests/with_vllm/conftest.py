"""Tests that run vLLM itself, in an environment of their own: `make test-vllm`."""

from __future__ import annotations

import os
from pathlib import Path

# Before vLLM is imported: a small cache, and no compiler for the few operations that vLLM compiles even when eager.
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
os.environ.setdefault("TORCH_COMPILE_DISABLE", "1")
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")

import pytest
import torch
import vllm  # noqa: F401 - without it these tests fail; they are never skipped
from worlds import TinyWorld, make_tiny_model, make_tiny_world

from llmrec.recommenders.llm import LLMRecommender
from llmrec.tasks.next_item import NextItemTask
from llmrec.tasks.template import PromptTemplate


@pytest.fixture(scope="session")
def world() -> TinyWorld:
    """300 items; heads of 32 dimensions, the smallest that vLLM's attention on CPUs knows."""
    made = make_tiny_world(300, (8, 8, 16), seed=3)
    shape = {"hidden_size": 64, "num_attention_heads": 2, "num_key_value_heads": 1}
    return made._replace(model=make_tiny_model(len(made.items.tokenizer), 3, **shape).to(torch.float32))


@pytest.fixture(scope="session")
def folder(world: TinyWorld, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is served."""
    template = PromptTemplate("Next:{% for item in history %}{{ item.code }}{% endfor %}")
    target = tmp_path_factory.mktemp("served") / "model"
    search = PromptTemplate("Seek {% for item in history %}{{ item.request }}{% endfor %}:")
    LLMRecommender(world.model, NextItemTask(template, world.catalog, world.items, 8, search)).save_pretrained(target)
    return target
