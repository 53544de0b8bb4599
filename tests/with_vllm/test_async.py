"""`AsyncLLM`: searches of several threads at once, beside sampled requests of which some are aborted."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from samples import is_valid, mixed_arguments
from vllm import SamplingParams
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.v1.engine.async_llm import AsyncLLM
from worlds import TinyWorld

from llmrec.engines.transformers import TransformersEngine
from llmrec.engines.vllm import AsyncBackend, VLLMEngine, settings_for


@pytest.fixture(scope="module")
def backend(folder: Path, world: TinyWorld) -> Iterator[AsyncBackend]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def start() -> AsyncLLM:
        settings = {**settings_for(folder, world.items), "dtype": "float32", "max_model_len": 128, "max_num_seqs": 16}
        return AsyncLLM.from_engine_args(AsyncEngineArgs(**settings))

    llm = asyncio.run_coroutine_threadsafe(start(), loop).result()
    yield AsyncBackend(llm, loop)
    loop.call_soon_threadsafe(llm.shutdown)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()


async def sampled(llm: Any, world: TinyWorld, number: int, rng: random.Random) -> bool | None:
    """Whether the item is valid; None if the request was given up."""
    given, tokens = mixed_arguments(rng, 300), []
    how = SamplingParams(temperature=1.0, max_tokens=8, extra_args=given or None)
    prompt = [rng.randrange(2, 258) for _ in range(rng.randint(1, 90))]
    async for output in llm.generate({"prompt_token_ids": prompt}, how, f"sample-{number}"):
        tokens = list(output.outputs[0].token_ids)
        if rng.random() < 0.15:
            await llm.abort(f"sample-{number}")
            return None
    return is_valid(world, tokens, given)


def test_searches_samples_and_aborts_do_not_disturb_each_other(backend: AsyncBackend, world: TinyWorld) -> None:
    rng = random.Random(7)
    prompts = [[[rng.randrange(2, 258) for _ in range(rng.randint(1, 60))] for _ in range(3)] for _ in range(8)]

    async def samples() -> list[bool | None]:
        gate, found = asyncio.Semaphore(16), []

        async def one(number: int) -> None:
            async with gate:
                found.append(await sampled(backend.llm, world, number, random.Random(number)))

        await asyncio.gather(*(one(number) for number in range(400)))
        return found

    running = asyncio.run_coroutine_threadsafe(samples(), backend.loop)
    with ThreadPoolExecutor(4) as pool:
        lists = list(pool.map(lambda some: VLLMEngine(backend, world.items).decode(some, 10, 20), prompts))
    outcomes = running.result()
    assert None in outcomes
    assert False not in outcomes
    embedded = TransformersEngine(world.model, world.items)
    for some, found in zip(prompts, lists, strict=True):
        expected = embedded.decode(some, 10, 20)
        np.testing.assert_array_equal(found.rows, expected.rows)
        np.testing.assert_allclose(found.scores, expected.scores, atol=2e-4)
