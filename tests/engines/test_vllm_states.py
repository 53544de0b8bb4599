"""What vLLM is asked for states, and that its answers are used as they are; a stand-in runs the model."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from circle import make_task
from worlds import TinyWorld

from llmrec.engines.states import ItemInputs, TransformersStates
from llmrec.engines.vllm_states import VLLMStates, pooling_settings_for
from llmrec.errors import ArtifactError, DecodingError
from llmrec.recommenders.llm import LLMRecommender


class Pooling:
    """Answers as vLLM's pooling runner does: tokens are embedded there, other places come embedded."""

    def __init__(self, world: TinyWorld, **changes: Any) -> None:
        self.world = world
        started = {"runner_type": "pooling", "enable_prompt_embeds": True, "max_model_len": 40, **changes}
        self.model_config = SimpleNamespace(pooler_config=SimpleNamespace(seq_pooling_type="LAST"), **started)

    def __call__(self, prompts: list[dict[str, Any]]) -> list[torch.Tensor]:
        return list(map(self.one, prompts))

    def one(self, prompt: dict[str, Any]) -> torch.Tensor:
        ids = torch.tensor([prompt["prompt_token_ids"]])
        inputs = self.world.model.get_input_embeddings()(ids)
        if "prompt_embeds" in prompt:
            is_token = torch.tensor(prompt["prompt_is_token_ids"])
            inputs = torch.where(is_token[:, None], inputs, prompt["prompt_embeds"])
        hidden: torch.Tensor = self.world.model.model(inputs_embeds=inputs).last_hidden_state[0, -1]
        return hidden


def items_of(world: TinyWorld) -> ItemInputs:
    table = torch.randn(20, 32, generator=torch.Generator().manual_seed(2))
    return ItemInputs(len(world.items.tokenizer), lambda rows: table[rows])


@pytest.mark.parametrize("reads", [False, True], ids=["codes", "vectors"])
def test_states_are_those_of_the_embedded_engine(tiny_world: TinyWorld, reads: bool) -> None:
    items, first = items_of(tiny_world) if reads else None, len(tiny_world.items.tokenizer)
    prompts = [[5, 9, 30], [7], [8, first + 3, first, 4, first + 19], [6, first + 3]] if reads else [[5, 9], [7, 8, 3]]
    found = VLLMStates(Pooling(tiny_world), items).states(prompts)
    expected = TransformersStates(tiny_world.model, items).states(prompts)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def test_another_vllm_is_refused(tiny_world: TinyWorld) -> None:
    with pytest.raises(DecodingError, match=r"runner='generate' \(wanted: 'pooling'\)"):
        VLLMStates(Pooling(tiny_world, runner_type="generate"))
    other = Pooling(tiny_world, enable_prompt_embeds=False)
    other.model_config.pooler_config.seq_pooling_type = "MEAN"
    with pytest.raises(DecodingError, match=r"seq_pooling_type='MEAN'.*enable_prompt_embeds=False"):
        VLLMStates(other, items_of(tiny_world))


def test_prompts_that_vllm_cannot_read_are_refused(tiny_world: TinyWorld) -> None:
    engine = VLLMStates(Pooling(tiny_world))
    with pytest.raises(DecodingError, match="prompts of 40 tokens, this one has 41"):
        engine.states([[5], [5] * 41])
    with pytest.raises(DecodingError, match="no token"):
        engine.states([[5], []])


def test_vllm_is_started_to_pool(tiny_world: TinyWorld, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no model folder"):
        pooling_settings_for(tmp_path, None)
    LLMRecommender(tiny_world.model, make_task(tiny_world.catalog, tiny_world.items)).save_pretrained(tmp_path / "made")
    settings = pooling_settings_for(tmp_path / "made", items_of(tiny_world))
    assert (settings["runner"], settings["enable_prompt_embeds"]) == ("pooling", True)
    assert settings["load_format"] == "safetensors"
    assert not pooling_settings_for(tmp_path / "made", None)["enable_prompt_embeds"]
