"""Does preference alignment recommend better than fine-tuning that goes on for the same time?

    python benchmarks/alignment.py --data ../shared/data/amazon14_office --store
    python benchmarks/alignment.py --data ../shared/data/amazon14_office --seeds 1 --minutes 5

Each seed trains one model (`recipes/sft/office_smollm2_cpu.yaml`), from which every stage of `STAGES` goes on by itself
for the same CPU seconds on one thread; the time for its negatives and rollouts is part of that. Of several validations
in each training the best is kept. NDCG@10 and HR@10 are for all users, full ranking, seen items excluded. `best_stage`
is the best mean on validation, `relative_gain` its lead in test NDCG@10 over `LONGER`, fine-tuning that just goes on.

Bias to popular items: `popularity` is the mean log train count of the recommended items less that of the test targets,
`top_1_percent` the share of places that the most popular hundredth of the items takes (of the targets: `targets`).
A run that is done is kept in `--keep` and not repeated.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import resource
import tempfile
import time
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from pathlib import Path
from typing import Any

import numpy as np
from budget import CpuBudget
from common import report
from index_quality import spread
from small_decoder import load_data

RECIPE = "sft/office_smollm2_cpu"
BASE, LONGER = "sft", "sft_longer"

UNIFORM = {"kind": "uniform"}
DPO: dict[str, Any] = {
    "kind": "dpo",
    "tuning": "full",
    "item_rows_lr": 3e-4,
    "batch_tokens": 2000,
    "args": {"learning_rate": 1e-4, "beta": 1.0},
}
STAGES: dict[str, dict[str, Any]] = {
    LONGER: {"init": "keep", "item_rows_lr": 1e-3, "args": {"learning_rate": 3e-4}},
    "dpo_1": {**DPO, "loss": "dpo", "preferences": {"per_user": None, "negatives": {**UNIFORM, "count": 1}}},
    "s_dpo_3": {**DPO, "loss": "s_dpo", "preferences": {"per_user": None, "negatives": {**UNIFORM, "count": 3}}},
    "s_dpo_10": {**DPO, "loss": "s_dpo", "preferences": {"per_user": 3, "negatives": {**UNIFORM, "count": 10}}},
    "rounds": {
        **DPO,
        "kind": "rounds",
        "loss": "s_dpo",
        "rounds": 20,
        "ask": "now",
        "choices": {"share": 0.5},
        "judged": {"chosen": "best", "rejected": 19},
        "rewards": {"kind": "recommender", "model": {"kind": "skip_markov"}},
        "item_rows_lr": 1e-3,
        "args": {"learning_rate": 3e-4, "beta": 1.0},
    },
    "grpo": {
        "kind": "grpo",
        "tuning": "full",
        "item_rows_lr": 1e-4,
        "choices": {"per_user": 3},
        "rewards": [{"kind": "next_item", "horizon": 3}, {"kind": "rank_penalty", "weight": 0.5}],
        "args": {
            "learning_rate": 3e-5,
            "beta": 0.0,
            "num_generations": 16,
            "per_device_train_batch_size": 512,
            "steps_per_generation": 1,
        },
    },
}
"""Name -> settings of a trainer, over those of the recipe where it is SFT."""

METRICS = ("ndcg@10", "hr@10")
BASE_SHARE = 4.0
"""How many times the seconds of a stage the first training gets."""
START_SECONDS, USERS_A_SECOND, TRAINING = 10, 120, 0.7
"""For `--minutes`, about: what a run needs before it trains, how fast it is measured, the share of time to train in."""


class Kept:
    """A recommender that remembers its lists."""

    def __init__(self, recommender: Any) -> None:
        self.recommender, self.catalog = recommender, recommender.catalog
        self.rows: list[np.ndarray] = []

    def recommend(self, *args: Any) -> Any:
        """As the recommender does."""
        answer = self.recommender.recommend(*args)
        self.rows.append(answer.rows)
        return answer


def popularity(rows: np.ndarray, targets: np.ndarray, counts: np.ndarray) -> dict[str, float]:
    """How far lists lean to popular items.

    Args:
        rows: `(E, k)` recommended items, -1 for none. targets: `(E,)`. counts: train events of each item.
    """
    shown, logs = rows[rows >= 0], np.log1p(counts)
    is_top = np.zeros(len(counts), bool)
    is_top[np.argsort(-counts, kind="stable")[: max(1, len(counts) // 100)]] = True
    return {
        "popularity": float(logs[shown].mean() - logs[targets].mean()),
        "top_1_percent": float(is_top[shown].mean()),
        "coverage": len(np.unique(shown)) / len(counts),
    }


def measured(recommender: Any, split: Any, users: int | None) -> dict[str, Any]:
    """Both sets of questions."""
    from llmrec.evaluation.protocol import evaluate

    found: dict[str, Any] = {}
    for name, questions in (("valid", split.valid.sample(users, 0)), ("test", split.test.sample(users, 0))):
        kept = Kept(recommender)
        result = evaluate(kept, questions, (10,), split=split.protocol, progress=False)
        found[name] = {metric: result.metrics[metric] for metric in METRICS}
        faults = result.invalid + result.duplicates + result.excluded_returned
        found[name]["faults"] = faults
        if name == "test":
            counts = np.bincount(split.train.item_rows, minlength=len(recommender.catalog))
            found["lists"] = popularity(np.concatenate(kept.rows), questions.targets.values, counts)
            found["protocol"] = result.protocol
    return found


def trainer_of(settings: dict[str, Any], recipe: Any) -> Any:
    """The trainer, with the recipe's settings beneath those of SFT, and without a schedule of its own."""
    from llmrec.registry import build

    below = recipe.train if settings.get("kind", "sft") == "sft" else {}
    args = {"bf16": True, "use_cpu": True, "gradient_checkpointing": False, "weight_decay": 0.01, "adam_beta2": 0.99}
    args |= {**below.get("args", {}), **settings.get("args", {}), "disable_tqdm": True}
    for name in ("num_train_epochs", "warmup_steps"):
        args.pop(name, None)
    args |= CpuBudget.ARGS_OF_ROUNDS if settings.get("kind") == "rounds" else CpuBudget.ARGS
    return build("trainer", {**below, "valid_users": 1000, **settings, "patience": None, "args": args}, "align")


def one_run(stage: str, seed: int, chosen: argparse.Namespace) -> dict[str, Any]:
    """Train a stage and measure it, or what that gave the last time; in a process of its own, on one thread."""
    import torch
    from transformers.utils import logging

    from llmrec.recipe import load_recipe
    from llmrec.recommenders.llm import Decoding, LLMRecommender

    folder, done = folder_of(stage, seed, chosen), "result.json"
    if (folder / done).is_file():
        return json.loads((folder / done).read_text())
    torch.set_num_threads(1)
    logging.set_verbosity_error()
    recipe = load_recipe(RECIPE, [f"data.root={chosen.data}", f"seed={seed}"])
    catalog, split = load_data(chosen.data)
    if stage == BASE:
        model, task, settings = *fresh(recipe, catalog, split, seed), {}
        budget = CpuBudget(chosen.base_seconds, chosen.validations)
    else:
        before = LLMRecommender.from_pretrained(folder_of(BASE, seed, chosen) / "model", dtype="float32")
        model, task, settings = before.model, before.task, STAGES[stage]
        budget = CpuBudget(chosen.stage_seconds, chosen.validations)
    wall = time.perf_counter()
    with tempfile.TemporaryDirectory() as work:
        recommender, log = trainer_of(settings, recipe).train(
            model, task, split.train, split.valid, Path(work), seed, Decoding.parse(recipe.decoding), callbacks=[budget]
        )
    result = {
        "cpu_seconds": round(budget.spent, 1),
        "wall_seconds": round(time.perf_counter() - wall, 1),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10),
        "steps": budget.steps,
        "preferences": log.get("preferences"),
        "validations": [round(entry["eval_ndcg@10"], 5) for entry in log["history"] if "eval_ndcg@10" in entry],
        **measured(recommender, split, chosen.users),
    }
    if stage == BASE:
        recommender.save_pretrained(folder / "model")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / done).write_text(json.dumps(result))
    return result


def fresh(recipe: Any, catalog: Any, split: Any, seed: int) -> tuple[Any, Any]:
    """The recipe's base model, and its task over an index that is made with the seed."""
    from llmrec import assets
    from llmrec.base_models import load_model
    from llmrec.indexes.item_tokenizer import ItemTokenizer
    from llmrec.registry import build
    from llmrec.tasks.next_item import NextItemTask
    from llmrec.tasks.template import PromptTemplate

    index = build("index", {"seed": seed, **recipe.index}, "index").build(catalog, split.train)
    model, tokenizer = load_model(recipe.model.name, recipe.model.layers, recipe.model.dtype)
    template = PromptTemplate(assets.path("prompts", "next_item.jinja").read_text())
    return model, NextItemTask(template, catalog, ItemTokenizer.bind(tokenizer, index), recipe.task.max_history)


def folder_of(stage: str, seed: int, chosen: argparse.Namespace) -> Path:
    """Where a run is kept; what decides its result is in the name."""
    same = [chosen.base_seconds, chosen.users, chosen.validations]
    if stage != BASE:
        same += [chosen.stage_seconds, STAGES[stage]]
    key = hashlib.sha256(json.dumps(same, sort_keys=True).encode()).hexdigest()[:8]
    return Path(chosen.keep) / f"{Path(chosen.data).name}-{stage}-{seed}-{key}"


def scale_to(minutes: float, chosen: argparse.Namespace) -> None:
    """Set the budgets and the number of users so that all runs fit into the minutes, on free cores."""
    jobs = min(chosen.jobs, chosen.seeds)
    units = BASE_SHARE * chosen.seeds / jobs + len(chosen.stages) * chosen.seeds / chosen.jobs  # one after another
    runs = chosen.seeds * (1 / jobs + len(chosen.stages) / chosen.jobs)
    seconds = 60 * minutes - START_SECONDS * runs
    if seconds <= 0:
        raise SystemExit(f"{minutes} minutes are too few: {runs:.0f} runs take {START_SECONDS} seconds each to start.")
    chosen.stage_seconds = round(TRAINING * seconds / units, 1)
    chosen.base_seconds = BASE_SHARE * chosen.stage_seconds
    chosen.users = int((1 - TRAINING) * seconds / runs * USERS_A_SECOND / (2 + chosen.validations))


def summary_of(runs: dict[int, dict[str, Any]]) -> dict[str, Any]:
    """One stage over its seeds."""
    each = [runs[seed] for seed in sorted(runs)]
    one = {
        f"{part}_{metric}": spread([run[part][metric] for run in each])
        for part in ("test", "valid")
        for metric in METRICS
    }
    lists = {name: round(float(np.mean([run["lists"][name] for run in each])), 4) for name in each[0]["lists"]}
    cost = {
        name: round(float(np.mean([run[name] for run in each])), 1) for name in ("cpu_seconds", "wall_seconds", "steps")
    }
    return {
        **one,
        **lists,
        **cost,
        "peak_mb": max(run["peak_mb"] for run in each),
        "preferences": each[0]["preferences"],
        "faults": sum(run[part]["faults"] for run in each for part in ("valid", "test")),
        "validations": [run["validations"] for run in each],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="../shared/data/amazon14_office")
    parser.add_argument("--stages", nargs="+", default=list(STAGES), choices=list(STAGES))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=None, help="in all; scales the budgets and the users down")
    parser.add_argument("--base-seconds", type=float, default=480, help="CPU seconds of the first training")
    parser.add_argument("--stage-seconds", type=float, default=120, help="CPU seconds of every stage")
    parser.add_argument("--validations", type=int, default=3, help="in each training, evenly spread")
    parser.add_argument("--users", type=int, default=None, help="of each measurement, drawn once; all by default")
    parser.add_argument("--jobs", type=int, default=2, help="runs at once, one thread each")
    parser.add_argument("--keep", default="runs/alignment", help="folder of the finished runs")
    parser.add_argument("--store", action="store_true", help="keep the result under benchmarks/results/")
    chosen = parser.parse_args()
    chosen.stages = [name for name in STAGES if name in {*chosen.stages, LONGER}]
    if chosen.minutes is not None:
        scale_to(chosen.minutes, chosen)
    began = time.perf_counter()
    found: dict[str, dict[int, dict[str, Any]]] = {name: {} for name in (BASE, *chosen.stages)}
    # A process for each run, so that its peak memory is its own.
    with ProcessPoolExecutor(
        chosen.jobs, mp_context=multiprocessing.get_context("spawn"), max_tasks_per_child=1
    ) as pool:
        pending = {pool.submit(one_run, BASE, seed, chosen): (BASE, seed) for seed in range(chosen.seeds)}
        while pending:
            for done in wait(pending, return_when=FIRST_COMPLETED).done:
                stage, seed = pending.pop(done)
                found[stage][seed] = done.result()
                print(stage, seed, json.dumps(found[stage][seed]), flush=True)
                if stage == BASE:
                    pending |= {pool.submit(one_run, name, seed, chosen): (name, seed) for name in chosen.stages}
    stages = {name: summary_of(runs) for name, runs in found.items()}
    best = max(stages, key=lambda name: stages[name]["valid_ndcg@10"]["mean"])
    gain = stages[best]["test_ndcg@10"]["mean"] / stages[LONGER]["test_ndcg@10"]["mean"] - 1
    figures = {
        "data": Path(chosen.data).name,
        **{
            f"{part}_{metric}": {name: stage.pop(f"{part}_{metric}") for name, stage in stages.items()}
            for part in ("test", "valid")
            for metric in METRICS
        },
        "best_stage": best,
        "relative_gain": round(gain, 4),
        "stages": stages,
        "settings": {name: STAGES[name] for name in chosen.stages},
        "peak_gb": round(max(stage["peak_mb"] for stage in stages.values()) / 2**10, 2),
        "minutes": round((time.perf_counter() - began) / 60, 1),
        "base_cpu_seconds": chosen.base_seconds,
        "stage_cpu_seconds": chosen.stage_seconds,
        "seeds": chosen.seeds,
        "protocol": found[BASE][0]["protocol"],
    }
    report(f"alignment_{Path(chosen.data).name}", figures, chosen.store, script="alignment")


if __name__ == "__main__":
    main()
