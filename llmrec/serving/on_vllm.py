"""Model folders whose language model runs in vLLM: one way for each kind of recommender that has one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from llmrec.engines.states import ItemInputs
from llmrec.recommenders.base import Recommender
from llmrec.recommenders.item_head import ItemHeadRecommender
from llmrec.recommenders.llm import LLMRecommender
from llmrec.serving.settings import ServingSettings
from llmrec.serving.vllm_process import VLLMProcess
from llmrec.tasks.next_item import NextItemTask

WORKERS = 16
"""Searches at a time on vLLM, which puts their steps together."""


class OnVLLM(NamedTuple):
    """A recommender, the vLLM below it, and the limits to serve it with."""

    recommender: Recommender
    process: VLLMProcess
    settings: ServingSettings


def codes(folder: Path, settings: ServingSettings, dtype: str) -> OnVLLM:
    """A model that writes codes: vLLM puts the steps of all searches together, so each question is searched alone."""
    from llmrec.engines.vllm import AsyncBackend, VLLMEngine, settings_for

    def engine(task: NextItemTask) -> VLLMEngine:
        process = VLLMProcess.start({**settings_for(folder, task.items), "dtype": dtype})
        started.append(process)
        return VLLMEngine(AsyncBackend(process.llm, process.loop), task.items)

    started: list[VLLMProcess] = []
    recommender = LLMRecommender.from_pretrained(folder, engine=engine)
    return OnVLLM(recommender, started[0], settings.model_copy(update={"workers": WORKERS, "max_batch": 1}))


def item_head(folder: Path, settings: ServingSettings, dtype: str) -> OnVLLM:
    """A model with an item head: one pass for a batch, which is projected together."""
    from llmrec.engines.vllm_states import AsyncPooling, VLLMStates, pooling_settings_for

    def engine(items: ItemInputs | None) -> VLLMStates:
        process = VLLMProcess.start({**pooling_settings_for(folder, items), "dtype": dtype})
        started.append(process)
        return VLLMStates(AsyncPooling(process.llm, process.loop), items)

    started: list[VLLMProcess] = []
    return OnVLLM(ItemHeadRecommender.from_pretrained(folder, engine=engine), started[0], settings)


STARTS: dict[str, Callable[[Path, ServingSettings, str], OnVLLM]] = {
    LLMRecommender.kind: codes,
    ItemHeadRecommender.kind: item_head,
}
"""By the recommender's kind; the others are no language models."""
