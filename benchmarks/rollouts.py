"""How many rollouts a second does GRPO get from the constrained engine, and how many from TRL's own way?

    python benchmarks/rollouts.py
    python benchmarks/rollouts.py --model runs/office_smollm2_cpu --prompts 16

A rollout is one item for a prompt; a group is `--group` of them. Compared are, in turns, on the same prompts:

- `beams` and `samples`: llmrec's trainer, as its training loop asks it;
- `generate`: TRL's `GRPOTrainer` without a `rollout_func`, which samples with transformers' `generate`, as long as a
  code is;
- `constrained`: the same held to the items by transformers' `prefix_allowed_tokens_fn`, so that it can be compared in
  what it gives too.

A second part times what follows on a group's rollouts, forward and backward: llmrec's packed row against TRL's one
sequence a rollout, both with LoRA.

Without `--model` it is SmolLM2-135M with random items, untrained, where only time counts: what it samples freely is no
item, and constrained samples are nearly uniform. With a trained model folder the counts of valid and different items
mean something too. All figures are ratios within one run, medians of `--repeats`.
"""

from __future__ import annotations

import argparse
import copy
import functools
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from common import report
from datasets import Dataset
from hf_beams import DictTrie
from shop_model import MODEL, make_histories, make_model
from trl import GRPOConfig, GRPOTrainer

from llmrec.data.interactions import Interactions
from llmrec.pipeline.run import load_split, plan
from llmrec.recipe import load_recipe
from llmrec.recommenders.llm import Decoding, LLMRecommender
from llmrec.tasks.next_item import NextItemTask
from llmrec.trainers.grpo import GRPO, PolicyTrainer
from llmrec.trainers.rollouts import Questions
from llmrec.types import Ragged

OURS, TRL = ("beams", "samples"), ("generate", "constrained")


def no_reward(prompts: list[Any], **_: Any) -> list[float]:
    """Rewards are not what is measured."""
    return [0.0] * len(prompts)


def arguments_for_trl(arguments: argparse.Namespace) -> dict[str, Any]:
    """One group in a micro-batch, all prompts in one generation."""
    return {
        "use_cpu": not torch.cuda.is_available(),
        "bf16": False,
        "disable_tqdm": True,
        "gradient_checkpointing": False,
        "num_generations": arguments.group,
        "per_device_train_batch_size": arguments.group,
        "steps_per_generation": arguments.prompts,
        "beta": 0.0,
    }


class Ours:
    """llmrec's trainer on some histories.

    Args:
        start: model and task. histories: what is asked after.
    """

    def __init__(
        self,
        start: LLMRecommender,
        histories: list[np.ndarray],
        source: str,
        arguments: argparse.Namespace,
        folder: str,
    ) -> None:
        settings = GRPO.parse(
            {"rewards": {"kind": "next_item"}, "rollouts": source, "args": arguments_for_trl(arguments)}
        )
        whole = Ragged.from_lists([*(np.append(history, 0) for history in histories)])
        train = as_train(whole, start.task)
        questions = Questions(
            train,
            np.arange(len(histories), dtype=np.int32),
            np.array([len(history) for history in histories], np.int32),
            np.ones(len(train), bool),
        )
        config = settings.config(Path(folder), arguments.seed)
        self.trainer = PolicyTrainer(
            start.model, config, start.task, settings, questions, [no_reward], None, Decoding(), False
        )
        self.trainer.model.train()
        self.numbers = np.repeat(np.arange(len(histories)), arguments.group).tolist()

    def rollouts(self) -> list[list[int]]:
        """Token ids of every rollout."""
        found: list[list[int]] = self.trainer._generate(self.numbers)[1]
        return found


def as_train(histories: Ragged, task: NextItemTask) -> Interactions:
    """Interactions whose histories these are, user by user."""
    ids = task.catalog.items.ids
    users = np.repeat(np.arange(len(histories)), histories.lengths)
    return Interactions.from_columns(
        pa.array([f"u{user:06d}" for user in users]),
        ids.take(pa.array(histories.values)),
        np.arange(len(histories.values)),
        task.catalog.items,
    )


class Theirs:
    """TRL's trainer on the same prompts as texts.

    Args:
        start: model and task.
    """

    def __init__(
        self, start: LLMRecommender, histories: list[np.ndarray], arguments: argparse.Namespace, folder: str
    ) -> None:
        tokenizer, ids = start.task.items.tokenizer, [start.task.prompt(history) for history in histories]
        texts = [tokenizer.decode(prompt) for prompt in ids]
        if tokenizer(texts)["input_ids"] != ids:
            raise SystemExit("the prompts as texts have other tokens, so the two would not do the same.")
        self.texts = [text for text in texts for _ in range(arguments.group)]
        settings = GRPO.parse({"args": arguments_for_trl(arguments)})
        config = GRPOConfig(
            output_dir=folder,
            max_completion_length=start.task.items.levels,
            per_device_eval_batch_size=arguments.group,
            report_to="none",
            **arguments_for_trl(arguments),
        )
        self.trainer = GRPOTrainer(
            model=start.model,
            reward_funcs=no_reward,
            args=config,
            train_dataset=Dataset.from_dict({"prompt": self.texts}),
            processing_class=tokenizer,
            peft_config=settings.lora_config(start.model, start.task.items),
        )
        head = self.trainer.model.get_base_model().get_output_embeddings()
        head.__dict__.setdefault("bias", None)  # TRL reads it, and PEFT's wrapper hides it
        self.trainer.model.train()
        self.items = start.task.items
        self.allowed = DictTrie(self.items, max(map(len, ids)))

    def rollouts(self, held: bool) -> list[list[int]]:
        """Token ids of every rollout; held to the items or not."""
        model = self.trainer.model
        if held:
            model.generate = functools.partial(type(model).generate, model, prefix_allowed_tokens_fn=self.allowed)
        try:
            found: list[list[int]] = self.trainer._generate(self.texts)[1]
        finally:
            model.__dict__.pop("generate", None)
        return found


def seconds(work: Callable[[], Any]) -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def counted(rollouts: list[list[int]], items: Any, group: int) -> dict[str, float]:
    """How many are no item, and how many different items a group has."""
    known = {tuple(items.encode(row)): row for row in range(len(items.index))}
    rows = [known.get(tuple(ids)) for ids in rollouts]
    groups = [rows[start : start + group] for start in range(0, len(rows), group)]
    return {
        "invalid": sum(row is None for row in rows),
        "distinct_items_per_group": round(statistics.mean(len({*g} - {None}) for g in groups), 2),
    }


def loss_step(trainer: GRPOTrainer, batch: dict[str, torch.Tensor]) -> None:
    """Forward and backward of one group."""
    trainer.model.zero_grad()
    trainer.compute_loss(trainer.model, batch).backward()


def group_batch(trainer: PolicyTrainer, numbers: list[int]) -> dict[str, torch.Tensor]:
    """TRL's batch of the first group, with advantages that are not zero."""
    trainer.current_gradient_accumulation_steps = 1
    inputs = [{"prompt": number} for number in numbers[: trainer.num_generations]]
    batch = trainer._generate_and_score_completions(inputs)
    batch["advantages"] = torch.linspace(-1, 1, trainer.num_generations).to(batch["advantages"].device)
    return batch


def world(arguments: argparse.Namespace) -> tuple[LLMRecommender, list[np.ndarray]]:
    """The model with its items, and histories."""
    rng = np.random.default_rng(arguments.seed)
    if arguments.model is None:
        start = make_model(MODEL, arguments.items, rng, sizes=(256,) * arguments.levels)
        return start, make_histories(arguments.prompts, arguments.items, rng, arguments.history)
    real = load_split(plan(load_recipe(arguments.model / "recipe.yaml"))).valid.histories
    users = rng.choice(len(real), arguments.prompts, replace=False)
    histories = [real[int(user)][-arguments.history :] for user in users]
    return LLMRecommender.from_pretrained(arguments.model, dtype="float32"), histories


def log(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="a trained model folder of `llmrec run`")
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--group", type=int, default=16)
    parser.add_argument("--history", type=int, default=10, help="most items of a history")
    parser.add_argument("--items", type=int, default=5000)
    parser.add_argument("--levels", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--store", action="store_true", help="keep the result under benchmarks/results/")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    start, histories = world(arguments)

    def fresh() -> LLMRecommender:  # LoRA changes a model in place
        return LLMRecommender(copy.deepcopy(start.model), start.task)

    with tempfile.TemporaryDirectory() as folder:
        ours = {source: Ours(fresh(), histories, source, arguments, folder) for source in OURS}
        theirs = Theirs(fresh(), histories, arguments, folder)
        work: dict[str, Callable[[], list[list[int]]]] = {
            **{source: each.rollouts for source, each in ours.items()},
            **{name: functools.partial(theirs.rollouts, name == "constrained") for name in TRL},
        }
        counts = {name: counted(run(), theirs.items, arguments.group) for name, run in work.items()}  # and warm-up
        times: dict[str, list[float]] = {name: [] for name in work}
        for _ in range(arguments.repeats):
            for name, run in work.items():
                times[name].append(seconds(run))
                log(f"{name}: {times[name][-1]:.2f} s")
        batch = group_batch(ours["beams"].trainer, ours["beams"].numbers)
        steps: dict[str, list[float]] = {"packed": [], "trl": []}
        theirs.trainer.current_gradient_accumulation_steps = 1
        for repeat in range(arguments.repeats + 1):
            for name, trainer in (("packed", ours["beams"].trainer), ("trl", theirs.trainer)):
                taken = seconds(functools.partial(loss_step, trainer, dict(batch)))
                log(f"loss, {name}: {taken:.2f} s")
                if repeat:  # the first warms up
                    steps[name].append(taken)
    median = {name: statistics.median(values) for name, values in times.items()}
    rollouts = arguments.prompts * arguments.group
    report(
        "rollouts",
        {
            "speedup_over_hf_generate": round(median["generate"] / median["beams"], 2),
            "speedup_over_hf_constrained": round(median["constrained"] / median["beams"], 2),
            "speedup_of_samples": round(median["generate"] / median["samples"], 2),
            "speedup_of_the_loss": round(statistics.median(steps["trl"]) / statistics.median(steps["packed"]), 2),
            "invalid": sum(counts[source]["invalid"] for source in OURS),
            "rollouts": rollouts,
            "rollouts_per_second": {name: round(rollouts / value, 1) for name, value in median.items()},
            "counts": counts,
            "seconds": {name: [round(value, 3) for value in values] for name, values in (times | steps).items()},
            "prompt_tokens": [len(ours["beams"].trainer.task.prompt(history)) for history in histories],
            "settings": {name: str(value) for name, value in vars(arguments).items() if name != "store"},
        },
        arguments.store,
    )


if __name__ == "__main__":
    main()
