"""Requests a second over HTTP: the embedded engine, vLLM with llmrec's search, and vLLM's own beam search.

    make test-vllm                                  # makes .venv-vllm, once
    .venv/bin/python benchmarks/serving.py --store

Servers one after the other, on the same cores and the same model folder (SmolLM2-135M and 3,000 random items on four
levels of 256; no training, because only computing counts): `llmrec serve --engine transformers`, `llmrec serve --engine
vllm`, and vLLM's server with `use_beam_search`, as it comes and with the block size that llmrec asks for. Each is asked
for the best 20 items by 1, 8 and 32 clients that wait for their answers. vLLM's own search knows nothing of items: what
it writes is filtered behind it, and the share that is no item counted (an untrained model writes hardly any). The
speedups are those in requests per second with 8 clients over vLLM's search as it comes; the other rates stand beside
them. Whether both engines give the same lists is asked of two more servers in float32, because bfloat16 makes ties.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from common import report
from load import Server, closed_loop
from overload import free_port
from shop_model import MODEL, make_histories, make_model

from llmrec.engines.vllm import CPU_BLOCK
from llmrec.errors import DecodingError
from llmrec.recommenders.llm import LLMRecommender

ROOT = Path(__file__).resolve().parent.parent
LEVELS = (256, 256, 256, 256)
COMPARED = 8
"""Clients whose rates the speedups compare."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--dtype", default="bfloat16", choices=["float32", "bfloat16"])
    parser.add_argument("--items", type=int, default=3000)
    parser.add_argument("--k", type=int, default=20)
    parser.add_argument("--longest", type=int, default=20, help="items of a history, at most")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--seconds", type=float, default=20, help="of each measurement")
    parser.add_argument("--lists", type=int, default=50, help="lists that are compared and checked")
    parser.add_argument("--vllm-python", default=str(ROOT / ".venv-vllm" / "bin" / "python"))
    parser.add_argument("--store", action="store_true", help="keep the result under benchmarks/results/")
    chosen = parser.parse_args()
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "model"
        recommender = make_model(chosen.model, chosen.items, rng, chosen.k, LEVELS, chosen.longest)
        recommender.save_pretrained(folder)
        histories = make_histories(500, chosen.items, rng, chosen.longest)
        figures: dict[str, Any] = {}
        for name in ("transformers", "vllm", "vllm_beam", "vllm_beam_small_blocks"):
            figures[name], _ = measure(name, folder, recommender, histories, chosen, chosen.dtype, chosen.clients)
            print(json.dumps({name: figures[name]}), flush=True)
        lists = {
            name: measure(name, folder, recommender, histories, chosen, "float32", [])[1]
            for name in ("transformers", "vllm")
        }
    report("serving", summary(figures, lists, chosen), chosen.store)


def measure(
    name: str,
    folder: Path,
    recommender: LLMRecommender,
    histories: list[np.ndarray],
    chosen: argparse.Namespace,
    dtype: str,
    clients: list[int],
) -> tuple[dict[str, Any], Any]:
    """Rates by clients and the share of invalid items, and the first lists, as item rows."""
    port = free_port()
    env = {"VLLM_CPU_KVCACHE_SPACE": "2", "TORCH_COMPILE_DISABLE": "1", "PYTHONPATH": str(ROOT)}
    if name.startswith("vllm_beam"):
        path = "/v1/completions"
        bodies = [beam_body(recommender, history, folder, chosen.k) for history in histories]
        command = [
            *(chosen.vllm_python, "-m", "vllm.entrypoints.openai.api_server", "--model", str(folder)),
            *("--enforce-eager", "--dtype", dtype, "--max-model-len", "512", "--max-logprobs", str(2 * chosen.k + 2)),
            *("--host", "127.0.0.1", "--port", str(port)),
            *(("--block-size", str(CPU_BLOCK)) if name == "vllm_beam_small_blocks" else ()),
        ]
        ready = "/health"
    else:
        path, ready = "/v1/recommend", "/ready"
        bodies = [{"history": [f"i{row}" for row in history], "k": chosen.k} for history in histories]
        python = chosen.vllm_python if name == "vllm" else sys.executable
        command = [
            *(python, "-m", "llmrec", "serve", str(folder), "--engine", name, "--dtype", dtype),
            *("--port", str(port), "--timeout-ms", "600000"),
        ]
    log = Path(os.environ.get("LLMREC_BENCHMARK_LOGS", folder.parent)) / f"{name}.log"
    with Server(command, f"http://127.0.0.1:{port}", ready, log, **env) as server:
        answers = []
        for body in bodies[: chosen.lists]:  # the first of them also warms the server up
            answers += asyncio.run(closed_loop(server.address, path, [body], 1, 0.0, keep=True)).answers
        found = {str(number): server.measure(path, bodies, number, chosen.seconds) for number in clients}
    rows = [rows_of(recommender, answer) for answer in answers]
    written = sum(len(one) for one in rows)
    invalid = sum(row < 0 for one in rows for row in one)
    return {
        "clients": found,
        "invalid_items": invalid,
        "items": written,
        "command": command_line(command, folder),
    }, rows


def beam_body(recommender: LLMRecommender, history: np.ndarray, folder: Path, k: int) -> dict[str, Any]:
    """The same prompt for vLLM's own search, with as many tokens as a code has."""
    return {
        "model": str(folder),
        "prompt": recommender.task.prompt(history),
        "use_beam_search": True,
        "n": k,
        "max_tokens": recommender.task.items.levels,
        "temperature": 0,
        "return_token_ids": True,
        "ignore_eos": True,
    }


def rows_of(recommender: LLMRecommender, answer: dict[str, Any]) -> list[int]:
    """The item rows of an answer, -1 for what is no item."""
    if "items" in answer:
        return [recommender.catalog.items.row(item["item_id"]) for item in answer["items"]]
    rows = []
    for choice in answer["choices"]:
        try:
            rows.append(recommender.task.items.decode(choice["token_ids"])[0])
        except DecodingError:
            rows.append(-1)
    return rows


def summary(figures: dict[str, Any], lists: dict[str, Any], chosen: argparse.Namespace) -> dict[str, Any]:
    compared = str(COMPARED if COMPARED in chosen.clients else chosen.clients[-1])
    rate = {name: found["clients"][compared]["requests_per_second"] for name, found in figures.items()}
    pairs = list(zip(lists["transformers"], lists["vllm"], strict=True))
    return {
        "speedup_over_vllm_beam": {name: round(rate[name] / rate["vllm_beam"], 2) for name in ("transformers", "vllm")},
        "invalid": {name: found["invalid_items"] for name, found in figures.items()},
        "invalid_share_vllm_beam": round(figures["vllm_beam"]["invalid_items"] / figures["vllm_beam"]["items"], 4),
        "speedup_over_vllm_beam_small_blocks": {
            name: round(rate[name] / rate["vllm_beam_small_blocks"], 2) for name in ("transformers", "vllm")
        },
        "equal_topk": round(sum(one == other for one, other in pairs) / len(pairs), 4),
        "shared_items": round(float(np.mean([len({*one} & {*other}) / len(one) for one, other in pairs])), 4),
        "clients_compared": int(compared),
        "engines": figures,
        "dtype": chosen.dtype,
        "levels": LEVELS,
        "longest_history": chosen.longest,
        "k": chosen.k,
        "items": chosen.items,
        "lists": chosen.lists,
    }


def command_line(command: list[str], folder: Path) -> str:
    """Without the folders of one machine."""
    return " ".join(["python", *command[1:]]).replace(str(folder), "MODEL")


if __name__ == "__main__":
    main()
