"""What trainers share: settings, TRL's configuration, evaluation by recommending, checkpoints.

A trainer is a `Component` with `train(model, task, train, valid, output, seed, ...)`, which gives the recommender and a
log. Beneath it works one of TRL's trainers, mixed with `RecommendingTrainer`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import torch
from peft import LoraConfig
from pydantic import Field, model_validator
from torch.utils.data import DataLoader
from transformers import (
    EarlyStoppingCallback,
    PreTrainedModel,
    PrinterCallback,
    ProgressCallback,
    TrainerCallback,
    TrainerControl,
)
from transformers.integrations import is_tensorboard_available

from llmrec.component import Component
from llmrec.data.split import Examples
from llmrec.engines.support import check_model
from llmrec.errors import RecipeError
from llmrec.evaluation.protocol import evaluate
from llmrec.indexes.item_tokenizer import ItemTokenizer
from llmrec.recommenders.llm import Decoding, LLMRecommender
from llmrec.tasks.next_item import NextItemTask
from llmrec.trainers.arithmetic import without_slow_bfloat16
from llmrec.trainers.batches import TokenBatches
from llmrec.trainers.callbacks import ProgressBar
from llmrec.trainers.item_rows import model_for_decoding, restore_embedding, trained_item_rows
from llmrec.trainers.processes import gathered, is_divided, mean_over, share, whole
from llmrec.trainers.quantized import is_quantized, keep_full_precision, merge

BEST = "eval_ndcg@10"


class TrainerSettings(Component):
    """What every trainer can be told; `args` goes unchanged into TRL's own configuration.

    Args:
        tuning: `full` (every weight but the words' embedding rows) or `lora` (PEFT, with the item rows trainable).
        lora: unchanged into `peft.LoraConfig`. item_rows_lr: learning rate of the item rows; that of `args` when None.
        batch_tokens: tokens of a batch, padding included (see `TokenBatches`); `per_device_train_batch_size` of `args`
            counts samples instead when None.
        patience: evaluations without a better validation NDCG@10 before training stops; never when None.
        valid_users: users in each of these evaluations, drawn once; all when None.
        args: TRL's fields. llmrec sets what belongs to its data columns, its evaluation and its folder.
    """

    where: ClassVar[str] = "train"
    """The recipe's key, for messages."""
    one_process: ClassVar[bool] = False
    """Whether it cannot train on several GPUs."""
    makes: ClassVar[str] = LLMRecommender.kind
    """The registered name of the recommender that comes out."""

    tuning: Literal["full", "lora"] = "full"
    lora: dict[str, Any] = {}
    item_rows_lr: float | None = Field(None, gt=0)
    batch_tokens: int | None = Field(None, ge=1)
    patience: int | None = Field(None, ge=1)
    valid_users: int | None = Field(2000, ge=1)
    args: dict[str, Any] = {}

    @model_validator(mode="after")
    def _patience_has_evaluations(self) -> Self:
        if self.patience and str(self.args.get("eval_strategy", "epoch")) == "no":
            raise ValueError("patience counts evaluations and args.eval_strategy is 'no'; set patience: null")
        return self

    def trl_config(self, kind: Any, output: Path, seed: int, ours: dict[str, Any]) -> Any:
        """TRL's configuration with what llmrec sets itself.

        Args:
            kind: the class, such as `trl.SFTConfig`. ours: further fields that a recipe must not set.

        Raises:
            RecipeError: TRL does not know a field, or refuses a value.
        """
        if self.one_process and (count := int(os.environ.get("WORLD_SIZE", "1"))) > 1:
            raise RecipeError(
                f"{count} processes were started, and {type(self).__name__} trains on one. Start llmrec by itself."
            )
        told = "tensorboard" if is_tensorboard_available() else "none"
        defaults = {"eval_strategy": "epoch", "report_to": told, "disable_tqdm": False, "seed": seed}
        chosen = without_slow_bfloat16({**defaults, **self.args})
        ours = {
            "output_dir": str(output),
            "remove_unused_columns": False,
            "save_total_limit": 2,
            "save_only_model": False,
            **ours,
        }
        if str(chosen["eval_strategy"]) != "no":
            ours |= {
                "save_strategy": chosen["eval_strategy"],
                "save_steps": chosen.get("eval_steps") or 500,
                "load_best_model_at_end": True,
                "metric_for_best_model": BEST,
                "greater_is_better": True,
            }
        if clash := sorted(set(ours) & set(self.args)):
            raise RecipeError(f"{self.where}.args.{clash[0]}: llmrec sets this itself. Remove it from the recipe.")
        try:
            return kind(**chosen, **ours)
        except (TypeError, ValueError) as error:
            raise RecipeError(
                f"{self.where}.args: {str(error).rstrip('.')}. The fields are those of trl.{kind.__name__}."
            ) from error

    def lora_config(self, model: PreTrainedModel, items: ItemTokenizer) -> LoraConfig | None:
        """PEFT's configuration with the item rows trainable, in the embedding and in the head (PEFT follows tying).

        Raises:
            RecipeError: PEFT does not know a field.
        """
        if self.tuning != "lora":
            return None
        ids = items.new_token_ids.tolist()
        embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
        holders = [embedding] if head.weight is embedding.weight else [embedding, head]
        names = [name.rpartition(".")[2] for name, module in model.named_modules() if module in holders]
        return self.peft_config(trainable_token_indices={name: ids for name in names})

    def peft_config(self, **ours: Any) -> LoraConfig:
        """PEFT's configuration as the recipe has it.

        Args:
            **ours: further fields, that a recipe must not set.

        Raises:
            RecipeError: PEFT does not know a field, or refuses a value.
        """
        try:
            return LoraConfig(**{"task_type": "CAUSAL_LM", "target_modules": "all-linear", **self.lora}, **ours)
        except (TypeError, ValueError) as error:
            raise RecipeError(f"{self.where}.lora: {error}. The fields are those of peft.LoraConfig.") from error

    def check_trained(self, model: PreTrainedModel, task: NextItemTask) -> None:
        """Whether an alignment can go on from a model.

        Raises:
            RecipeError: it was not trained with these item tokens, or not on all items.
            DecodingError: it cannot be decoded.
        """
        check_model(model)
        if (rows := model.get_input_embeddings().weight.shape[0]) < len(task.items.tokenizer):
            raise RecipeError(
                f"{self.where}: the model has {rows} rows for {len(task.items.tokenizer)} tokens: it was not trained "
                "with these item tokens. Align a model after kind: sft."
            )
        if task.items.index.stand_ins is not None:
            raise RecipeError(
                f"{self.where}: the index has items that the model was not trained on. Train on them first (kind: sft, "
                "init: keep), then align."
            )

    def callbacks(self, others: Sequence[TrainerCallback]) -> list[TrainerCallback]:
        """Early stopping where it is wanted, and others."""
        return [*([EarlyStoppingCallback(self.patience)] if self.patience else []), *others]


class RecommendingTrainer:
    """Mixed into a trainer of TRL: evaluates by recommending, so `eval_ndcg@10` comes from constrained decoding.

    Its subclass sets `settings`, `task`, `valid`, `decoding` and `exclude_seen` before TRL's constructor runs.
    """

    settings: TrainerSettings
    task: NextItemTask
    valid: Examples
    decoding: Decoding
    exclude_seen: bool

    @property
    def bare_model(self: Any) -> PreTrainedModel:
        """The causal language model inside PEFT's and Accelerate's wrappers."""
        model = self.accelerator.unwrap_model(self.model)
        return model.get_base_model() if hasattr(model, "get_base_model") else model

    def set_right(self: Any) -> None:
        """Undo what TRL's constructor does otherwise than llmrec wants it; called behind it.

        The Trainer's own callbacks print on stdout, where results belong; what trains beside quantized weights is
        rounded.
        """
        if is_quantized(self.bare_model):
            keep_full_precision(self.model)
        if self.is_fsdp_enabled and self.settings.tuning == "lora":
            raise RecipeError(
                f"{self.settings.where}.tuning is 'lora', and llmrec divides weights (FSDP) for full fine-tuning only. "
                "Start it with recipes/accelerate/ddp.yaml: adapters are small, and with QLoRA the weights are too."
            )
        for printing in (PrinterCallback, ProgressCallback):
            self.remove_callback(printing)
        self.add_callback(ProgressBar)

    def get_train_dataloader(self: Any) -> DataLoader:
        """Batches by tokens where the recipe says so."""
        if self.settings.batch_tokens is None:
            loader: DataLoader = super().get_train_dataloader()  # type: ignore[misc]
            return loader
        batches = TokenBatches(self.train_dataset["length"], self.settings.batch_tokens, self.args.seed)
        loader = DataLoader(
            self.train_dataset,
            batch_sampler=batches,
            collate_fn=self.data_collator,
            num_workers=self.args.dataloader_num_workers,
        )
        prepared: DataLoader = self.accelerator.prepare(loader)
        return prepared

    def create_optimizer(self: Any, *args: Any, **kwargs: Any) -> torch.optim.Optimizer:
        """The Trainer's optimizer; the item rows get their own learning rate and no decay."""
        try:
            optimizer: torch.optim.Optimizer = super().create_optimizer(*args, **kwargs)  # type: ignore[misc]
        except ImportError as error:  # of bitsandbytes, mostly
            raise RecipeError(
                f"{self.settings.where}.args.optim: {str(error).strip()} (llmrec names it: pip install "
                "'llmrec[quantization]')"
            ) from error
        if self.settings.item_rows_lr is not None:
            rows = trained_item_rows(self.bare_model)
            for group in list(optimizer.param_groups):
                if any(parameter is rows for parameter in group["params"]):
                    group["params"] = [parameter for parameter in group["params"] if parameter is not rows]
                    rest = {name: value for name, value in group.items() if name != "params"}
                    optimizer.add_param_group(
                        {**rest, "params": [rows], "lr": self.settings.item_rows_lr, "weight_decay": 0.0}
                    )
        return optimizer

    def evaluate(self: Any, *_: Any, metric_key_prefix: str = "eval", **__: Any) -> dict[str, float]:
        """Recommend for the validation users and measure hits."""
        was_training = self.model.training
        autocast = torch.autocast(self.args.device.type, torch.bfloat16) if self.args.bf16 else nullcontext()
        mine, bar = share(self.accelerator, self.valid), self.is_world_process_zero() and not self.args.disable_tqdm
        with autocast, whole(self.model):
            recommender = self.recommender(model_for_decoding(self.bare_model))
            found = evaluate(recommender, mine, exclude_seen=self.exclude_seen, progress=bar)
        self.model.train(was_training)
        means = mean_over(self.accelerator, found.metrics, len(mine))
        metrics = {f"{metric_key_prefix}_{name}": float(value) for name, value in means.items()}
        metrics["epoch"] = self.state.epoch
        self.log(metrics)
        self.control: TrainerControl = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def recommender(self, model: PreTrainedModel) -> Any:
        """What is trained, as a recommender around the bare model."""
        return LLMRecommender(model, self.task, self.decoding)

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """Checkpoints need no card; the finished folder gets llmrec's."""

    def finished(self: Any, result: Any) -> tuple[Any, dict[str, Any]]:
        """The recommender after training, with merged weights and an ordinary `forward`, and the log.

        Args:
            result: what `train` gave.
        """
        if is_divided(self.model):
            tuned = gathered(self.model)
        else:
            tuned = merge(self.model) if self.settings.tuning == "lora" else self.model
        restore_embedding(tuned)
        tuned.__dict__.pop("forward", None)  # the training-time forward
        tuned.config.use_cache = True  # the Trainer switches it off, and the folder is for decoding
        tuned.eval()
        log = {"history": self.state.log_history, "best": self.state.best_metric, **result.metrics}
        return self.recommender(tuned), log


def last_checkpoint(output: Path) -> str | None:
    """The newest complete checkpoint; the trainer state is written last, so half of one or none means a kill."""
    complete = [path.parent for path in output.glob("checkpoint-*/trainer_state.json") if _is_json(path)]
    return str(max(complete, key=lambda path: int(path.name.split("-")[1]))) if complete else None


def _is_json(path: Path) -> bool:
    try:
        json.loads(path.read_text())
    except ValueError:
        return False
    return True
