"""`vllm.LLM`: the same lists as the embedded engine, and samples that are always one valid item."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from samples import is_valid, mixed_arguments
from vllm import SamplingParams
from vllm.exceptions import VLLMValidationError
from vllm.sampling_params import BeamSearchParams
from worlds import TinyWorld

from llmrec.engines.bias import ItemBias
from llmrec.engines.transformers import TransformersEngine
from llmrec.engines.vllm import OfflineBackend, VLLMEngine
from llmrec.errors import DecodingError
from llmrec.types import Ragged

TOLERANCE = 2e-4  # float32, nats

SETTINGS = [
    {"temperature": 0},
    {"temperature": 2.0, "top_k": 5},
    {"top_p": 0.5},
    {"min_p": 0.2},
    {"repetition_penalty": 2.0, "presence_penalty": 1.5},
    {"min_tokens": 6},
    {"allowed_token_ids": [40]},
]


@pytest.fixture(scope="module")
def engine(folder: Path) -> Iterator[VLLMEngine]:
    """A cache of 12 blocks for 16 requests at once, so that some are preempted; prompts in parts of 64 tokens."""
    made = VLLMEngine.load(
        folder,
        dtype="float32",
        max_model_len=128,
        max_num_seqs=16,
        max_num_batched_tokens=64,
        num_gpu_blocks_override=12,
        disable_log_stats=False,
    )
    yield made
    assert isinstance(made.backend, OfflineBackend)
    made.backend.llm.llm_engine.engine_core.shutdown()


def prompts_of(rng: random.Random, world: TinyWorld, count: int) -> list[list[int]]:
    return [[rng.randrange(2, len(world.items.tokenizer)) for _ in range(rng.randint(1, 70))] for _ in range(count)]


@pytest.mark.parametrize("normalize", ["codebook", "children", "vocab"])
def test_the_lists_are_those_of_the_embedded_engine(engine: VLLMEngine, world: TinyWorld, normalize: str) -> None:
    rng = random.Random(1)
    prompts = prompts_of(rng, world, 12)
    excluded = Ragged.from_lists([np.array(rng.sample(range(300), 20), np.int32) for _ in prompts])
    for arguments in (
        {},
        {"excluded": excluded, "candidates": np.arange(0, 300, 2, dtype=np.int32), "most_beams": 80},
        {"bias": ItemBias(np.linspace(-2, 2, 300).astype(np.float32), 0.5)},
    ):
        found = engine.decode(prompts, 10, 20, normalize, **arguments)
        expected = TransformersEngine(world.model, world.items).decode(prompts, 10, 20, normalize, **arguments)
        np.testing.assert_array_equal(found.rows, expected.rows)
        np.testing.assert_allclose(found.scores, expected.scores, atol=TOLERANCE)
        np.testing.assert_array_equal(found.exact, expected.exact)


def test_every_sample_is_one_valid_item(engine: VLLMEngine, world: TinyWorld) -> None:
    """With preemption, chunked prompts, prefix-cache hits and every sampling setting that changes what is drawn."""
    rng, params = random.Random(2), []
    prompts = prompts_of(rng, world, 300) + [[5] * rng.choice([29, 30, 31]) for _ in range(300)]
    for _ in prompts:
        settings = rng.choice(SETTINGS)
        arguments = mixed_arguments(rng, 300)
        params.append(SamplingParams(max_tokens=8, extra_args=arguments or None, **settings))
    llm = engine.backend.llm
    outputs = llm.generate([{"prompt_token_ids": ids} for ids in prompts], params, use_tqdm=False)
    for output, how in zip(outputs, params, strict=True):
        tokens = list(output.outputs[0].token_ids)
        while len(tokens) > 1 and tokens[-2] == world.items.tokenizer.eos_token_id:
            tokens.pop()  # `min_tokens` repeats the end
        assert is_valid(world, tokens, how.extra_args or {}), (tokens, how)
    preempted = [metric.value for metric in llm.get_metrics() if metric.name == "vllm:num_preemptions"]
    assert sum(preempted) > 0  # or this test shows less than it says


def test_a_text_is_one_item(engine: VLLMEngine, world: TinyWorld) -> None:
    how = SamplingParams(temperature=1.0, max_tokens=8, n=5, extra_args={"item_candidates": ["i7", "i8"]})
    (answer,) = engine.backend.llm.generate([{"prompt_token_ids": [5, 6]}], how, use_tqdm=False)
    assert {output.text for output in answer.outputs} <= {world.items.tokens(7), world.items.tokens(8)}


def test_wrong_arguments_are_refused_and_the_engine_lives(engine: VLLMEngine) -> None:
    how = SamplingParams(max_tokens=4, extra_args={"item_candidate": [1]})
    with pytest.raises(VLLMValidationError, match="Did you mean 'item_candidates'"):
        engine.backend.llm.generate([{"prompt_token_ids": [5]}], how, use_tqdm=False)
    assert engine.decode([[5]], 1, 1).rows[0, 0] >= 0


def test_vllm_s_own_beam_search_still_ignores_the_processor(engine: VLLMEngine, world: TinyWorld) -> None:
    """Why the search is ours; when this fails, vLLM has changed and docs/serving.md is out of date."""
    (answer,) = engine.backend.llm.beam_search(
        [{"prompt_token_ids": [5, 6, 7]}], BeamSearchParams(beam_width=4, max_tokens=3)
    )
    invalid = 0
    for sequence in answer.sequences:
        try:
            world.items.decode(list(sequence.tokens)[3:6])
        except DecodingError:
            invalid += 1
    assert invalid > 0
