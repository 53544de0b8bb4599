"""What a small student keeps of its teacher, and what it costs: quality, users a second, tokens a second, bytes.

    python benchmarks/distill.py --data ../shared/data/amazon14_office --seeds 3 --store
    python benchmarks/distill.py --layers 4 --teacher-epochs 2 --epochs 2 --seeds 1 --users 500       (a short look)

The teacher is SmolLM2-135M cut to `--layers`, fine-tuned by `recipes/sft/office_smollm2_cpu.yaml`; or any finished
folder (`--teacher`). Students have `--student-layers` of its layers and a pruned vocabulary. Each is trained twice from
the same weights, for the same steps at most: with the teacher's losses, and by the labels alone. Runs are kept in
`--output`, so a run that was stopped goes on. Speeds are medians of alternating rounds in this process.
"""

from __future__ import annotations

import argparse
import copy
import importlib.util
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from common import report
from transformers import TrainerCallback

from llmrec.data.split import Split
from llmrec.evaluation.protocol import evaluate
from llmrec.pipeline.distill import read_teacher
from llmrec.pipeline.run import run
from llmrec.recipe import DistillRecipe, distill_recipe, load_recipe
from llmrec.recommenders.llm import LLMRecommender
from llmrec.recommenders.pruning import pruned
from llmrec.recommenders.quantization import Kind, quantize_folder
from llmrec.trainers.distill import Distill
from llmrec.trainers.sft import SFT

METRIC = "ndcg@10"
ALONE = ["distill.losses.trie_kl=0", "distill.losses.labels=1"]
STEPS, WARM = 12, 4


def train_teacher(arguments: argparse.Namespace) -> Path:
    """The folder of the teacher, trained now if it is not there."""
    changes = {
        "data.root": arguments.data,
        "output": arguments.output,
        "name": f"teacher_{arguments.layers}",
        "model.layers": arguments.layers,
        "train.args.num_train_epochs": arguments.teacher_epochs,
    }
    recipe = load_recipe("sft/office_smollm2_cpu", [f"{key}={value}" for key, value in changes.items()])
    return Path(run(recipe)["folder"])


def student_recipe(arguments: argparse.Namespace, teacher: Path, seed: int, name: str, *more: str) -> DistillRecipe:
    changes = {
        "name": f"{teacher.name}_{name}_{arguments.student_layers}_{seed}",
        "output": arguments.output,
        "seed": seed,
        "distill.student.layers": arguments.student_layers,
        "distill.args.num_train_epochs": arguments.epochs,
    }
    overrides = [*(f"{key}={value}" for key, value in changes.items()), *more, *arguments.set]
    return distill_recipe(teacher, overrides)


def quality(arguments: argparse.Namespace, teacher: Path) -> dict[str, Any]:
    """NDCG of the students with and without the teacher, as shares of the teacher's."""
    kept: dict[str, list[float]] = {"with": [], "without": []}
    found: dict[str, Any] = {}
    for seed in range(arguments.seeds):
        for name, more in (("with", []), ("without", ALONE)):
            summary = run(student_recipe(arguments, teacher, seed, name, *more))
            kept[name].append(summary["distillation"]["kept"][METRIC])
            found["params_ratio"] = round(summary["distillation"]["ratio"], 4)
            found["parameters"] = summary["distillation"]["parameters"]
            found["teacher_ndcg@10"] = summary["baselines"]["teacher"][METRIC]
            found["markov_ndcg@10"] = summary["baselines"]["markov"][METRIC]
            found.setdefault("train_seconds", {}).setdefault(name, []).append(summary["train_seconds"])
            found["protocol"] = summary["protocol"]
    return found | {
        "ndcg_kept": round(float(np.mean(kept["with"])), 4),
        "ndcg_kept_without_teacher": round(float(np.mean(kept["without"])), 4),
        "ndcg_kept_each": kept,
    }


def users_per_second(models: dict[str, LLMRecommender], split: Split, users: int, rounds: int) -> dict[str, float]:
    """Through the embedded engine, lists of 20; the models take turns."""
    histories = split.test.sample(users, 0).histories
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for turn in range(rounds + 1):
        for name, model in models.items():
            began = time.perf_counter()
            model.recommend(histories, 20)
            if turn:  # the first warms up
                seconds[name].append(time.perf_counter() - began)
    return {name: len(histories) / statistics.median(values) for name, values in seconds.items()}


class StepClock(TrainerCallback):
    """Wall seconds of every training step."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self.began = time.perf_counter()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.seconds.append(time.perf_counter() - self.began)


def tokens_per_second(recipe: DistillRecipe, states: Path) -> dict[str, float]:
    """Of the teacher's fine-tuning, of the student with kept states, and with the teacher beside it; same batches."""
    short = {"max_steps": STEPS, "eval_strategy": "no", "logging_steps": 1, "disable_tqdm": True}
    args = {**recipe.distill["args"], **short}
    shared = {name: recipe.distill[name] for name in ("item_rows_lr", "dropout", "label_smoothing", "batch_tokens")}

    def measured(trainer: Any, kept: dict[str, Any]) -> float:
        teacher, split, _ = read_teacher(recipe)
        clock = StepClock()
        parts = (teacher,) if isinstance(trainer, Distill) else (copy.deepcopy(teacher.model), teacher.task)
        with tempfile.TemporaryDirectory() as work:
            _, log = trainer.train(*parts, split.train, split.valid, Path(work), 0, callbacks=[clock], **kept)
        tokens = [entry["num_tokens"] for entry in log["history"] if "num_tokens" in entry]
        return float((tokens[STEPS - 1] - tokens[WARM - 1]) / sum(clock.seconds[WARM:]))

    settings = {**recipe.distill, "patience": None, "args": args}
    found = {
        "teacher": measured(SFT.parse({**shared, "init": "keep", "args": args}), {}),
        "student": measured(Distill.parse(settings), {"states": states}),
        "student_beside_teacher": measured(Distill.parse({**settings, "keep_states": False}), {}),
    }
    return {name: round(value, 1) for name, value in found.items()}


def pruning(teacher: Path, split: Split, users: int) -> dict[str, Any]:
    """The same lists from fewer bytes."""
    whole, small = (LLMRecommender.from_pretrained(teacher, dtype="float32") for _ in range(2))
    small = pruned(small)
    histories = split.test.sample(users, 1).histories
    before, after = (each.recommend(histories, 20) for each in (whole, small))
    with tempfile.TemporaryDirectory() as folder:
        sizes = []
        for name, each in (("whole", whole), ("small", small)):
            each.save_pretrained(Path(folder, name))
            sizes.append(sum(path.stat().st_size for path in Path(folder, name).rglob("*") if path.is_file()))
    same, real = (before.rows == after.rows).all(1), before.rows >= 0
    return {
        "equal_lists": int(same.sum()),
        "lists": len(same),
        "largest_difference_of_scores": float(np.abs(before.scores - after.scores)[real].max()),
        "megabytes": [round(size / 1e6, 1) for size in sizes],
    }


def eight_bits(student: Path, split: Split, users: int, rounds: int) -> dict[str, Any]:
    """Quality, speed and bytes of the student's quantized folders beside its own; nothing where torchao is missing."""
    if importlib.util.find_spec("torchao") is None:
        return {}
    questions = split.test.sample(users, 2)
    with tempfile.TemporaryDirectory() as name:
        folders = {"float32": student}
        for kind in get_args(Kind):
            folders[kind] = Path(name, kind)
            quantize_folder(student, folders[kind], kind)
        models = {kind: LLMRecommender.from_pretrained(folder) for kind, folder in folders.items()}
        speeds = users_per_second(models, split, users, rounds)
        return {
            kind: {
                METRIC: round(evaluate(model, questions, (10,), progress=False).metrics[METRIC], 4),
                "users_per_second": round(speeds[kind], 1),
                "megabytes": round(sum(path.stat().st_size for path in folders[kind].glob("*.safetensors")) / 1e6, 1),
            }
            for kind, model in models.items()
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="../shared/data/amazon14_office")
    parser.add_argument("--teacher", type=Path, help="a finished folder in place of training one")
    parser.add_argument("--layers", type=int, default=12, help="of the teacher")
    parser.add_argument("--student-layers", type=int, default=1)
    parser.add_argument("--teacher-epochs", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=16, help="of the students")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--users", type=int, default=1000, help="for the speed of inference and for pruning")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", default="runs/benchmark_distill", help="where runs are kept")
    parser.add_argument("--set", nargs="*", default=[], help="further dotted.key=value of the students")
    parser.add_argument("--store", action="store_true", help="keep the result under benchmarks/results/")
    arguments = parser.parse_args()

    teacher = arguments.teacher or train_teacher(arguments)
    figures = quality(arguments, teacher)
    recipe = student_recipe(arguments, teacher, 0, "with")
    loaded, split, _ = read_teacher(recipe)
    student = LLMRecommender.from_pretrained(recipe.output / recipe.name, dtype="float32")
    loaded.model.to(torch.float32)
    users = users_per_second({"teacher": loaded, "student": student}, split, arguments.users, arguments.rounds)
    tokens = tokens_per_second(recipe, recipe.output / "cache" / "teacher_states")
    figures |= {
        "inference_speedup": round(users["student"] / users["teacher"], 2),
        "training_speedup": round(tokens["student"] / tokens["teacher"], 2),
        "users_per_second": {name: round(value, 1) for name, value in users.items()},
        "tokens_per_second": tokens,
        "pruning": pruning(teacher, split, arguments.users),
        "eight_bits": eight_bits(recipe.output / recipe.name, split, arguments.users, arguments.rounds),
        "layers": {"teacher": len(loaded.model.get_decoder().layers), "student": arguments.student_layers},
        "seeds": arguments.seeds,
    }
    report("distill", figures, arguments.store)


if __name__ == "__main__":
    main()
