"""What do tasks in plain language do to a recommender that is trained for the same time?

    python benchmarks/alignment_tasks.py --data ../shared/data/amazon14_office --seeds 3 --store
    python benchmarks/alignment_tasks.py --data ../shared/data/amazon14_office --seeds 1 --seconds 15 --users 100

Each seed trains the base model of `recipes/sft/office_smollm2_cpu.yaml` once for every mixture of `MIXTURES`, for the
same CPU seconds on one thread, so that every sample of a task is paid for by one of the next item. Of several
validations in each training the best by NDCG@10 of the next item is kept, and decides nothing about words. NDCG@10 and
HR@10 are for all users, full ranking, seen items excluded; the recall of described items, and what a recommender that
never learned to be asked is asked, is that of `benchmarks/language.py`. `relative` is a mixture's test NDCG@10 over
that of `ALONE`, mean of the seeds. A run that is done is kept in `--keep` and not repeated.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from alignment import METRICS, RECIPE, fresh, measured, trainer_of
from budget import CpuBudget
from common import report
from index_quality import spread
from language import explained, recalls
from small_decoder import load_data

ALONE = "next_item"
MIXTURES: dict[str, list[dict[str, Any]]] = {
    ALONE: [],
    "titles": [{"kind": "title_to_item", "weight": 0.5}],
    "requests": [{"kind": "request_to_item", "weight": 0.5}, {"kind": "title_to_item", "weight": 0.2}],
    "all": [
        {"kind": "request_to_item", "weight": 0.2},
        {"kind": "title_to_item", "weight": 0.2},
        {"kind": "description_to_item", "weight": 0.1},
        {"kind": "titles_to_item", "weight": 0.1, "shown": 5},
        {"kind": "item_to_title", "weight": 0.1},
        {"kind": "item_to_category", "weight": 0.1, "column": "categories"},
    ],
}
"""Name -> `train.tasks`; the weights count samples, and a packed history is one sample."""


def one_run(mixture: str, seed: int, chosen: argparse.Namespace) -> dict[str, Any]:
    """Train with a mixture and measure, or what that gave the last time; in a process of its own, on one thread."""
    import torch
    from transformers.utils import logging

    from llmrec.recipe import load_recipe
    from llmrec.recommenders.llm import Decoding

    same = [chosen.seconds, chosen.users, chosen.requests, chosen.explained, chosen.validations, MIXTURES[mixture]]
    key = hashlib.sha256(json.dumps(same, sort_keys=True).encode()).hexdigest()[:8]
    kept = Path(chosen.keep) / f"{Path(chosen.data).name}-{mixture}-{seed}-{key}.json"
    if kept.is_file():
        return dict(json.loads(kept.read_text()))
    torch.set_num_threads(1)
    logging.set_verbosity_error()
    recipe = load_recipe(RECIPE, [f"data.root={chosen.data}", f"seed={seed}"])
    catalog, split = load_data(chosen.data)
    model, task = fresh(recipe, catalog, split, seed)
    budget = CpuBudget(chosen.seconds, chosen.validations)
    trainer = trainer_of({"tasks": MIXTURES[mixture]}, recipe)
    with tempfile.TemporaryDirectory() as work:
        recommender, log = trainer.train(
            model, task, split.train, split.valid, Path(work), seed, Decoding.parse(recipe.decoding), callbacks=[budget]
        )
    result = {
        "cpu_seconds": round(budget.spent, 1),
        "steps": budget.steps,
        "validations": [round(entry["eval_ndcg@10"], 5) for entry in log["history"] if "eval_ndcg@10" in entry],
        **measured(recommender, split, chosen.users),
        "recall@10": recalls(recommender, chosen.requests, 10),
        "reasons": explained(recommender, split.test.sample(chosen.explained, 0).histories, 10),
    }
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps(result))
    return result


def summary_of(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """One mixture over its seeds."""
    kinds = runs[0]["recall@10"]
    return {
        **{f"test_{metric}": spread([run["test"][metric] for run in runs]) for metric in METRICS},
        "valid_ndcg@10": spread([run["valid"]["ndcg@10"] for run in runs]),
        "recall@10": {
            kind: {who: spread([run["recall@10"][kind][who] for run in runs]) for who in ("llmrec", "tfidf", "chance")}
            for kind in kinds
        },
        "reasons": sum(run["reasons"]["reasons"] for run in runs),
        "foreign": sum(run["reasons"]["foreign"] for run in runs),
        "found": min(run["reasons"]["found"] for run in runs),
        "faults": sum(run[part]["faults"] for run in runs for part in ("valid", "test")),
        "cpu_seconds": round(float(np.mean([run["cpu_seconds"] for run in runs])), 1),
        "steps": round(float(np.mean([run["steps"] for run in runs])), 1),
        "validations": [run["validations"] for run in runs],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="../shared/data/amazon14_office")
    parser.add_argument("--mixtures", nargs="+", default=list(MIXTURES), choices=list(MIXTURES))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=480, help="CPU seconds of every training")
    parser.add_argument("--validations", type=int, default=3, help="in each training, evenly spread")
    parser.add_argument("--users", type=int, default=None, help="of each measurement, drawn once; all by default")
    parser.add_argument("--requests", type=int, default=500, help="of each kind of description")
    parser.add_argument("--explained", type=int, default=50, help="users whose lists are explained")
    parser.add_argument("--jobs", type=int, default=2, help="runs at once, one thread each")
    parser.add_argument("--keep", default="runs/alignment_tasks", help="folder of the finished runs")
    parser.add_argument("--store", action="store_true", help="keep the result under benchmarks/results/")
    chosen = parser.parse_args()
    began = time.perf_counter()
    mixtures = [name for name in MIXTURES if name in {*chosen.mixtures, ALONE}]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(chosen.jobs, mp_context=context, max_tasks_per_child=1) as pool:
        pending = {
            (name, seed): pool.submit(one_run, name, seed, chosen) for seed in range(chosen.seeds) for name in mixtures
        }
        runs = {}
        for key, run in pending.items():
            runs[key] = run.result()
            print(*key, json.dumps(runs[key]), flush=True)
    found = {name: summary_of([runs[name, seed] for seed in range(chosen.seeds)]) for name in mixtures}
    alone = found[ALONE]["test_ndcg@10"]["mean"]
    figures = {
        "data": Path(chosen.data).name,
        "relative": {
            name: round(one["test_ndcg@10"]["mean"] / alone, 4) if alone else None for name, one in found.items()
        },
        "mixtures": found,
        "tasks": {name: MIXTURES[name] for name in mixtures},
        "train_cpu_seconds": chosen.seconds,
        "seeds": chosen.seeds,
        "minutes": round((time.perf_counter() - began) / 60, 1),
        "protocol": runs[ALONE, 0]["protocol"],
    }
    report(f"alignment_tasks_{Path(chosen.data).name}", figures, chosen.store, script="alignment_tasks")


if __name__ == "__main__":
    main()
