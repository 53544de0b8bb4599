"""A stand-in for vLLM, which is not installed here: the model in transformers, and the real logits processor."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from worlds import TinyWorld

import llmrec.engines.vllm as engine_module
from llmrec.engines.constraint import ItemConstraint
from llmrec.engines.logits_processor import TrieLogitsProcessorV1
from llmrec.engines.vllm import settings_for


class OneStep:
    """Answers as vLLM does: the processed logits of one step, the sampled token first, then the best ones."""

    def __init__(self, world: TinyWorld) -> None:
        self.world, self.calls = world, 0
        self.model_config = SimpleNamespace(**settings_for("folder", world.items))

    def __call__(self, prompts: list[list[int]], params: list[SimpleNamespace]) -> list[SimpleNamespace]:
        self.calls += 1
        processor = TrieLogitsProcessorV1.of(ItemConstraint(self.world.items), len(prompts))
        added = [(row, how, ids, []) for row, (ids, how) in enumerate(zip(prompts, params, strict=True))]
        processor.update_state(SimpleNamespace(batch_size=len(prompts), removed=[], added=added, moved=[]))
        rows = [self.world.model(torch.tensor([ids])).logits[0, -1] for ids in prompts]
        said = processor.apply(torch.stack(rows))
        answers = []
        for row, how in zip(said, params, strict=True):
            top = row.topk(how.logprobs)
            tokens = [int(row.argmax()), *top.indices.tolist()]
            answers.append(SimpleNamespace(token_ids=tokens, logprobs=[row.max().item(), *top.values.tolist()]))
        return [SimpleNamespace(outputs=[SimpleNamespace(logprobs=answer)]) for answer in answers]


def patch_one_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests without vLLM's `SamplingParams`."""

    def one_step(normalize: str, prefix: int, children: int) -> SimpleNamespace:
        arguments = {"item_prefix": prefix, "item_scores": normalize}
        return SimpleNamespace(extra_args=arguments, logprobs=children)

    monkeypatch.setattr(engine_module, "_one_step", one_step)
