"""A small decoder that trains in a minute, and a way to give every index the same budget; no benchmark by itself.

A Llama of two narrow layers from nothing: what it knows of an item it learned from the index and the histories. The
budget is CPU seconds of the training steps alone. They are measured by the process, so that other work on the machine
does not shorten anybody's training; how many steps fit is found out by a short trial run, so that the learning rate
falls to zero at the end of the budget.
"""

from __future__ import annotations

import os
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, TrainerCallback

from llmrec import assets
from llmrec.base_models import load_tokenizer
from llmrec.data.catalog import Catalog
from llmrec.data.split import Split, k_core, leave_one_out
from llmrec.indexes.base import ItemIndex
from llmrec.indexes.item_tokenizer import ItemTokenizer
from llmrec.recommenders.llm import Decoding, LLMRecommender
from llmrec.sources.table import TableSource
from llmrec.tasks.next_item import NextItemTask
from llmrec.tasks.template import PromptTemplate
from llmrec.trainers.sft import SFT

TOKENIZER = "HuggingFaceTB/SmolLM2-135M-Instruct"
MAX_HISTORY = 20
TRIAL_STEPS = 24
VALIDATIONS = 6


@dataclass
class StepClock(TrainerCallback):
    """CPU seconds of every training step, evaluations and saving left out."""

    seconds: list[float] = field(default_factory=list)

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self.began = time.process_time()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.seconds.append(time.process_time() - self.began)


def load_data(root: str) -> tuple[Catalog, Split]:
    """Catalog and leave-one-out split of a folder with `interactions.parquet` and `items.parquet`."""
    catalog, interactions = TableSource(root=Path(root)).load()
    return catalog, leave_one_out(k_core(interactions, 3, 1))


def small_decoder(vocabulary: int, width: int, layers: int, seed: int) -> PreTrainedModel:
    """A Llama with random weights."""
    torch.manual_seed(seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=width,
            intermediate_size=2 * width,
            num_hidden_layers=layers,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=2048,
            initializer_range=0.05,
            tie_word_embeddings=True,
        )
    )


def train_for(
    seconds: float,
    index: ItemIndex,
    catalog: Catalog,
    split: Split,
    seed: int,
    width: int = 64,
    layers: int = 2,
    beams: int = 20,
    args: dict[str, Any] | None = None,
    **settings: Any,
) -> tuple[LLMRecommender, dict[str, Any]]:
    """Train a small decoder on an index.

    Args:
        seconds: CPU seconds of training steps, on one thread. index: the items' codes. split: the data. seed: of the
            model and its training. width, layers: of the decoder. beams: of validation and of the result.
        args, settings: further settings of `SFT`, in place of the ones here.

    Returns:
        The recommender of the best validation, and figures of the run.
    """
    torch.set_num_threads(1)
    tokenizer = load_tokenizer(TOKENIZER)
    items = ItemTokenizer.bind(tokenizer, index)
    template = PromptTemplate(assets.path("prompts", "next_item.jinja").read_text())
    task = NextItemTask(template, catalog, items, MAX_HISTORY)

    def run(steps: int, validations: int) -> tuple[LLMRecommender, dict[str, Any], StepClock]:
        every = max(1, steps // validations) if validations else 0
        evaluation = {"eval_strategy": "steps", "eval_steps": every} if every else {"eval_strategy": "no"}
        sft = SFT.parse(
            {
                "item_rows_lr": 5e-3,
                "dropout": 0.2,
                "label_smoothing": 0.1,
                "batch_tokens": 2048,
                "valid_users": 600,
                **settings,
                "args": {
                    "max_steps": steps,
                    "learning_rate": 4e-3,
                    "lr_scheduler_type": "cosine",
                    "warmup_steps": 0.05,
                    "adam_beta2": 0.99,
                    "weight_decay": 0.01,
                    "logging_steps": 50,
                    "bf16": False,
                    "use_cpu": True,
                    "gradient_checkpointing": False,
                    "disable_tqdm": True,
                    **evaluation,
                    **(args or {}),
                },
            }
        )
        clock = StepClock()
        model = small_decoder(len(tokenizer), width, layers, seed)
        decoding = Decoding(beams=beams)
        with tempfile.TemporaryDirectory() as folder:
            found, log = sft.train(
                model, task, split.train, split.valid, Path(folder), seed, decoding, callbacks=[clock]
            )
        return found, log, clock

    _, _, trial = run(TRIAL_STEPS, 0)
    a_step = sum(trial.seconds[4:]) / len(trial.seconds[4:])  # the first ones warm up
    steps = max(TRIAL_STEPS, int(seconds / a_step))
    recommender, log, clock = run(steps, VALIDATIONS)
    figures = {
        "steps": steps,
        "train_cpu_seconds": round(sum(clock.seconds), 1),
        "epochs": round(float(log["epoch"]), 2),
        "valid_ndcg@10": [round(entry["eval_ndcg@10"], 4) for entry in log["history"] if "eval_ndcg@10" in entry],
        "load": round(os.getloadavg()[0], 1),
    }
    return recommender, figures
