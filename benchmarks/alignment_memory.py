"""What does it cost to compare the chosen item with ten others instead of with one? Memory of a step of DPO.

    python benchmarks/alignment_memory.py --data ../shared/data/amazon14_office --store
    python benchmarks/alignment_memory.py --data ../shared/data/amazon14_office --rows 4 --history 10

SmolLM2-135M with all its layers and LoRA; every number of negatives in a process of its own, the same choices in all.
The prompt is computed once for all items of a choice, so a further negative adds the tokens of a code, not a prompt.
`ratio` is that of the peaks as the operating system counts them; `ratio_above_start` leaves out the peak before
training (weights, libraries), so it is the stricter one. The processes run with a fixed `MALLOC_MMAP_THRESHOLD_`:
otherwise glibc keeps freed tensors in heaps with holes, and the peak tells more about those than about the tensors.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from common import report
from small_decoder import TOKENIZER, load_data


def peak_mb() -> float:
    """The most memory that this process has held so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def one_step(negatives: int, chosen: argparse.Namespace) -> dict[str, Any]:
    """Load the model and take the steps."""
    from llmrec import assets
    from llmrec.base_models import load_model
    from llmrec.indexes.item_tokenizer import ItemTokenizer
    from llmrec.registry import build
    from llmrec.tasks.next_item import NextItemTask
    from llmrec.tasks.template import PromptTemplate
    from llmrec.trainers.item_rows import add_item_rows

    catalog, split = load_data(chosen.data)
    train = split.train.keep_users(np.diff(split.train.offsets) > chosen.history)
    index = build("index", {"kind": "random", "levels": [64, 128], "seed": 0}, "index").build(catalog, train)
    model, tokenizer = load_model(TOKENIZER)
    items = ItemTokenizer.bind(tokenizer, index)
    template = PromptTemplate(assets.path("prompts", "next_item.jinja").read_text())
    task = NextItemTask(template, catalog, items, chosen.history)
    add_item_rows(model, items, catalog, "random", 0)
    settings = {
        "kind": "dpo",
        "tuning": "lora",
        "loss": "s_dpo",
        "preferences": {"negatives": {"kind": "uniform", "count": negatives}},
        "args": {
            "max_steps": chosen.steps,
            "per_device_train_batch_size": chosen.rows,
            "eval_strategy": "no",
            "save_strategy": "no",
            "gradient_checkpointing": False,
            "bf16": False,
            "use_cpu": True,
            "disable_tqdm": True,
        },
    }
    start, began = peak_mb(), time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        build("trainer", settings, "align").train(model, task, train, split.valid, Path(folder), 0)
    return {
        "start_mb": round(start),
        "peak_mb": round(peak_mb()),
        "seconds": round(time.perf_counter() - began, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="../shared/data/amazon14_office")
    parser.add_argument("--negatives", type=int, nargs="+", default=[1, 10], help="the first is what others relate to")
    parser.add_argument("--rows", type=int, default=32, help="choices of a step")
    parser.add_argument("--history", type=int, default=20, help="items of each prompt")
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument("--store", action="store_true", help="keep the result under benchmarks/results/")
    chosen = parser.parse_args()
    os.environ["MALLOC_MMAP_THRESHOLD_"] = str(2**16)  # of the processes started below
    found = {}
    for negatives in chosen.negatives:
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            found[negatives] = pool.submit(one_step, negatives, chosen).result()
        print(negatives, json.dumps(found[negatives]), flush=True)
    first, most = found[chosen.negatives[0]], found[chosen.negatives[-1]]
    figures = {
        "ratio": round(most["peak_mb"] / first["peak_mb"], 3),
        "ratio_above_start": round((most["peak_mb"] - most["start_mb"]) / (first["peak_mb"] - first["start_mb"]), 3),
        "negatives": {str(negatives): each for negatives, each in found.items()},
        "peak_gb": round(most["peak_mb"] / 2**10, 2),
        "choices": chosen.rows,
        "history": chosen.history,
        "model": TOKENIZER,
        "tuning": "lora",
        "seed": 0,
    }
    report("alignment_memory", figures, chosen.store)


if __name__ == "__main__":
    main()
