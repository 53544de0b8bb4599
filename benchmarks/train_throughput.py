"""Packed histories with a loss over the level's codebook, against the plain way: one sample a target, the whole head.

    python benchmarks/train_throughput.py --data ../shared/data/amazon14_office --seconds 60

All ways train the same model on the same split for the same wall time, in one process, with the same optimizer
settings and batches of the same number of tokens. What counts is how many *trained* tokens (item tokens that carry
loss) pass a second: the plain way processes many more tokens, because it repeats the history for every target.
`speedup_over_plain` is the ratio of trained tokens per second; the NDCG after equal time says what it is worth.

"plain" and "full head" use TRL's own loss as it is. On a CPU it multiplies every position with the whole vocabulary; on
a GPU with Triton only positions that carry loss, so the share of the head in the gain is smaller there.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

from common import report
from transformers import TrainerCallback

from llmrec.base_models import load_model
from llmrec.data.split import cut
from llmrec.evaluation.protocol import evaluate
from llmrec.indexes.item_tokenizer import ItemTokenizer
from llmrec.pipeline.run import template_source
from llmrec.recipe import load_recipe
from llmrec.registry import build
from llmrec.tasks.next_item import NextItemTask
from llmrec.tasks.template import PromptTemplate
from llmrec.trainers import sft

WAYS: dict[str, dict[str, Any]] = {
    "packed, level loss": {"packing": True, "loss": "level"},
    "packed, full head": {"packing": True, "loss": "vocab"},
    "single, level loss": {"packing": False, "loss": "level"},
    "plain": {"packing": False, "loss": "vocab"},
}


class Stopwatch(TrainerCallback):
    """Stops training after some seconds; the first step (allocation, compilation of kernels) is not counted."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.began, self.elapsed, self.steps = seconds, 0.0, 0.0, 0

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        now = time.perf_counter()
        if state.global_step == 1:
            self.began = now
        else:
            self.steps, self.elapsed = self.steps + 1, now - self.began
            control.should_training_stop = self.elapsed >= self.seconds
        return control


class Counter:
    """Wraps the collator and counts what it hands to the model."""

    def __init__(self, collate: Any) -> None:
        self.collate, self.batches, self.trained, self.real, self.padded = collate, 0, 0, 0, 0

    def __call__(self, samples: list[dict[str, Any]]) -> Any:
        batch = self.collate(samples)
        self.batches += 1
        self.trained += int((batch["labels"][:, 1:] != sft.IGNORED).sum())
        self.real += int(batch["attention_mask"].sum())
        self.padded += batch["input_ids"].numel()
        return batch


def measure(name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Train one way for some seconds and evaluate."""
    recipe = load_recipe("sft/office_smollm2_cpu", [f"data.root={arguments.data}"])
    dataset = build("source", recipe.data).load()
    split = cut(dataset.interactions, recipe.split)
    index = build("index", recipe.index).build(dataset.catalog, split.train)
    model, tokenizer = load_model(recipe.model.name, arguments.layers)
    items = ItemTokenizer.bind(tokenizer, index)
    task = NextItemTask(
        PromptTemplate(template_source(recipe.task.template)), dataset.catalog, items, recipe.task.max_history
    )
    way = WAYS[name]
    recipe_args = {key: value for key, value in recipe.train["args"].items() if key in ("bf16", "use_cpu")}
    settings = sft.SFT(
        **way,
        item_rows_lr=3e-3,
        batch_tokens=arguments.batch_tokens,
        args={
            **recipe_args,
            "gradient_checkpointing": False,
            "eval_strategy": "no",
            "save_strategy": "no",
            "num_train_epochs": 1000,
            "learning_rate": 1e-3,
            "lr_scheduler_type": "constant",
            "logging_steps": 1000,
        },
    )
    watch, counters = Stopwatch(arguments.seconds), []

    class Timed(sft.RecommenderTrainer):
        def __init__(self, *positional: Any, **named: Any) -> None:
            super().__init__(*positional, **named)
            self.add_callback(watch)
            self.data_collator = Counter(self.data_collator)
            counters.append(self.data_collator)

    usual, sft.RecommenderTrainer = sft.RecommenderTrainer, Timed
    try:
        with tempfile.TemporaryDirectory() as folder:
            recommender, _ = settings.train(model, task, split.train, split.valid, Path(folder), seed=0)
    finally:
        sft.RecommenderTrainer = usual
    found = evaluate(recommender, split.valid.sample(arguments.users, 0), split=split.protocol)
    (counter,) = counters
    share = watch.steps / counter.batches  # the first step was not timed, and a batch was fetched ahead
    return {
        "trained_tokens_per_second": round(counter.trained * share / watch.elapsed, 1),
        "input_tokens_per_second": round(counter.real * share / watch.elapsed, 1),
        "padding": round(1 - counter.real / counter.padded, 3),
        "seconds": round(watch.elapsed, 1),
        "steps": watch.steps,
        "valid_ndcg@10": round(found.metrics["ndcg@10"], 5),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="../shared/data/amazon14_office")
    parser.add_argument("--seconds", type=float, default=60, help="training time of each way")
    parser.add_argument("--batch-tokens", type=int, default=1400, help="tokens of a step, for every way")
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--users", type=int, default=1000, help="validation users")
    parser.add_argument("--store", action="store_true", help="keep the result under benchmarks/results/")
    arguments = parser.parse_args()
    ways = {name: measure(name, arguments) for name in WAYS}
    best, plain = ways["packed, level loss"], ways["plain"]
    figures = {
        "speedup_over_plain": round(best["trained_tokens_per_second"] / plain["trained_tokens_per_second"], 2),
        "valid_ndcg@10": {name: way["valid_ndcg@10"] for name, way in ways.items()},
        "ways": ways,
        "layers": arguments.layers,
        "seed": 0,
    }
    report("train_throughput", figures, arguments.store)


if __name__ == "__main__":
    main()
