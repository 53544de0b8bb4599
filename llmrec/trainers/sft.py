"""Supervised fine-tuning: TRL's `SFTTrainer`, with packed histories and a loss over the level's codebook."""

from __future__ import annotations

import json
import types
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal, Self

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
from transformers.modeling_outputs import CausalLMOutput
from trl import SFTConfig, SFTTrainer

from llmrec.component import Component
from llmrec.data.interactions import Interactions
from llmrec.data.split import Examples
from llmrec.errors import RecipeError
from llmrec.evaluation.protocol import evaluate
from llmrec.indexes.item_tokenizer import ItemTokenizer
from llmrec.recommenders.llm import Decoding, LLMRecommender
from llmrec.tasks.next_item import NextItemTask
from llmrec.trainers.batches import TokenBatches
from llmrec.trainers.callbacks import ProgressBar
from llmrec.trainers.dropout import dropout
from llmrec.trainers.item_rows import (
    Init,
    add_item_rows,
    item_head_rows,
    model_for_decoding,
    restore_embedding,
    train_item_rows_only,
    trained_item_rows,
)
from llmrec.trainers.losses.level_softmax import level_softmax_loss
from llmrec.trainers.samples import IGNORED, PadRight, training_dataset

BEST = "eval_ndcg@10"


class SFT(Component):
    """Settings of the stage; `args` goes unchanged into TRL's `SFTConfig`.

    Args:
        tuning: `full` (every weight but the words' embedding rows) or `lora` (PEFT, with the item rows trainable).
        lora: unchanged into `peft.LoraConfig`. packing: one sample a user trains all positions in one pass.
        loss: `level` (the level's codebook) or `vocab` (the whole head, TRL's own loss).
        init: first values of the item rows. item_rows_lr: their learning rate; that of `args` when None.
        dropout: share of activations dropped, see `llmrec.trainers.dropout`; with `loss: level` also before the head.
        label_smoothing: share of a target spread over its codebook; for `loss: level`.
        batch_tokens: tokens of a batch, padding included (see `TokenBatches`); `per_device_train_batch_size` of `args`
            counts samples instead when None.
        patience: evaluations without a better validation NDCG@10 before training stops; never when None.
        valid_users: users in each of these evaluations, drawn once; all when None.
        args: TRL's fields. llmrec sets what belongs to its data columns, its evaluation and its folder.
    """

    tuning: Literal["full", "lora"] = "full"
    lora: dict[str, Any] = {}
    packing: bool = True
    loss: Literal["level", "vocab"] = "level"
    init: Init = "text"
    item_rows_lr: float | None = Field(None, gt=0)
    dropout: float = Field(0.0, ge=0, lt=1)
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    batch_tokens: int | None = Field(None, ge=1)
    patience: int | None = Field(None, ge=1)
    valid_users: int | None = Field(2000, ge=1)
    args: dict[str, Any] = {}

    @model_validator(mode="after")
    def _settings_fit_together(self) -> Self:
        if self.label_smoothing and self.loss == "vocab":
            raise ValueError("label_smoothing works with loss: level only; set it to 0")
        if self.loss == "level" and self.args.get("label_smoothing_factor"):
            raise ValueError("args.label_smoothing_factor is for loss: vocab; with loss: level set label_smoothing")
        if self.patience and str(self.args.get("eval_strategy", "epoch")) == "no":
            raise ValueError("patience counts evaluations and args.eval_strategy is 'no'; set patience: null")
        return self

    def config(self, output: Path, seed: int) -> SFTConfig:
        """TRL's configuration as this stage uses it.

        Raises:
            RecipeError: TRL does not know a field, or refuses a value.
        """
        chosen = {"eval_strategy": "epoch", "report_to": "none", "disable_tqdm": False, "seed": seed, **self.args}
        evaluates = str(chosen["eval_strategy"]) != "no"
        ours = {
            "output_dir": str(output),
            "dataset_kwargs": {"skip_prepare_dataset": True},
            "remove_unused_columns": False,
            "max_length": None,
            "packing": False,  # TRL's packing joins users; ours trains all positions of one
            "save_total_limit": 2,
            "save_only_model": False,
        }
        if evaluates:
            ours |= {
                "save_strategy": chosen["eval_strategy"],
                "save_steps": chosen.get("eval_steps") or 500,
                "load_best_model_at_end": True,
                "metric_for_best_model": BEST,
                "greater_is_better": True,
            }
        if clash := sorted(set(ours) & set(self.args)):
            raise RecipeError(f"train.args.{clash[0]}: llmrec sets this itself. Remove it from the recipe.")
        try:
            return SFTConfig(**chosen, **ours)
        except (TypeError, ValueError) as error:
            raise RecipeError(
                f"train.args: {str(error).rstrip('.')}. The fields are those of trl.SFTConfig."
            ) from error

    def train(
        self,
        model: PreTrainedModel,
        task: NextItemTask,
        train: Interactions,
        valid: Examples,
        output: Path,
        seed: int,
        decoding: Decoding | None = None,
        exclude_seen: bool = True,
        callbacks: Sequence[TrainerCallback] = (),
    ) -> tuple[LLMRecommender, dict[str, Any]]:
        """Fine-tune a base model; resumes from the last checkpoint in `output` if there is one.

        Args:
            model: a base model without item rows; or, with `init: keep`, one that was trained with these item tokens.
            task: prompts and codes. train: train rows only.
            valid: validation questions. output: folder of checkpoints. seed: of rows, order and dropout.
            decoding: how validation decodes, and how the result will. exclude_seen: in validation.
            callbacks: more of them for the Trainer.

        Returns:
            The recommender (of the best evaluation), and the log: every evaluation, the loss, seconds, tokens. Its
            index has no stand-ins: it was trained on all items, also on those that were added before.
        """
        config = self.config(output, seed)
        decoding = decoding or Decoding()
        if task.items.index.stand_ins is not None:
            task = task.over(task.items.index.all_trained())
        add_item_rows(model, task.items, task.catalog, self.init, seed)
        if self.tuning == "full":
            train_item_rows_only(model, task.items)
        trainer = RecommenderTrainer(
            model=model,
            args=config,
            task=task,
            settings=self,
            train_dataset=training_dataset(task, train, self.packing),
            valid=valid.sample(self.valid_users, seed),
            decoding=decoding,
            exclude_seen=exclude_seen,
            callbacks=callbacks,
        )
        with dropout(trainer.bare_model, self.dropout):
            result = trainer.train(resume_from_checkpoint=_last_checkpoint(output))
        tuned = trainer.model.merge_and_unload() if self.tuning == "lora" else trainer.model
        restore_embedding(tuned)
        tuned.__dict__.pop("forward", None)  # the training-time forward
        tuned.config.use_cache = True  # the Trainer switches it off, and the folder is for decoding
        tuned.eval()
        log = {"history": trainer.state.log_history, "best": trainer.state.best_metric, **result.metrics}
        return LLMRecommender(tuned, task, decoding), log


class RecommenderTrainer(SFTTrainer):
    """`SFTTrainer` that evaluates by recommending: `eval_ndcg@10` comes from constrained decoding, not from a loss."""

    def __init__(
        self,
        model: PreTrainedModel,
        args: SFTConfig,
        task: NextItemTask,
        settings: SFT,
        train_dataset: Any,
        valid: Examples,
        decoding: Decoding,
        exclude_seen: bool,
        callbacks: Sequence[TrainerCallback] = (),
    ) -> None:
        self.task, self.settings, self.valid = task, settings, valid
        self.decoding, self.exclude_seen = decoding, exclude_seen
        tokenizer = task.items.tokenizer
        stopping = [EarlyStoppingCallback(settings.patience)] if settings.patience else []
        super().__init__(
            model=model,
            args=args,
            train_dataset=train_dataset,
            eval_dataset=train_dataset.select(range(1)),  # the Trainer wants one; `evaluate` below never reads it
            processing_class=tokenizer,
            data_collator=PadRight(tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0),
            peft_config=_lora_config(settings, model, task.items) if settings.tuning == "lora" else None,
            callbacks=[*stopping, *callbacks],
        )
        for printing in (PrinterCallback, ProgressCallback):
            self.remove_callback(printing)
        self.add_callback(ProgressBar)
        if settings.loss == "level":
            _add_level_loss(self.bare_model, task.items, settings.dropout, settings.label_smoothing)
        elif settings.tuning == "lora":
            _show_bias(self.bare_model.get_output_embeddings())

    @property
    def bare_model(self) -> PreTrainedModel:
        """The causal language model inside PEFT's and Accelerate's wrappers."""
        model = self.accelerator.unwrap_model(self.model)
        return model.get_base_model() if hasattr(model, "get_base_model") else model

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The mean over trained tokens, also across accumulation steps and processes."""
        if self.settings.loss == "vocab":
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        # Padding stands behind each sample, where causal attention cannot see it: without a mask attention runs faster.
        visible = inputs.pop("attention_mask")
        outputs = model(**inputs, level_loss=True, use_cache=False)
        tokens = (inputs["labels"] != IGNORED).sum() if num_items_in_batch is None else num_items_in_batch
        loss = outputs.loss / torch.as_tensor(tokens).clamp(min=1)
        if self.args.average_tokens_across_devices and num_items_in_batch is not None:
            loss = loss * self.accelerator.num_processes  # gradients are averaged over processes afterwards
        self._total_train_tokens += int(self.accelerator.gather_for_metrics(visible.sum()).sum())
        self._metrics["train"]["num_tokens"] = [self._total_train_tokens]
        return (loss, outputs) if return_outputs else loss

    def get_train_dataloader(self) -> DataLoader:
        """Batches by tokens where the recipe says so."""
        if self.settings.batch_tokens is None:
            return super().get_train_dataloader()
        batches = TokenBatches(self.train_dataset["length"], self.settings.batch_tokens, self.args.seed)
        loader = DataLoader(
            self.train_dataset,
            batch_sampler=batches,
            collate_fn=self.data_collator,
            num_workers=self.args.dataloader_num_workers,
        )
        return self.accelerator.prepare(loader)

    def create_optimizer(self, *args: Any, **kwargs: Any) -> torch.optim.Optimizer:
        """The Trainer's optimizer; the item rows get their own learning rate and no decay."""
        optimizer = super().create_optimizer(*args, **kwargs)
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

    def evaluate(self, *_: Any, metric_key_prefix: str = "eval", **__: Any) -> dict[str, float]:
        """Recommend for the validation users and measure hits."""
        was_training = self.model.training
        autocast = torch.autocast(self.args.device.type, torch.bfloat16) if self.args.bf16 else nullcontext()
        recommender = LLMRecommender(model_for_decoding(self.bare_model), self.task, self.decoding)
        with autocast:
            found = evaluate(
                recommender, self.valid, exclude_seen=self.exclude_seen, progress=not self.args.disable_tqdm
            )
        self.model.train(was_training)
        metrics = {f"{metric_key_prefix}_{name}": float(value) for name, value in found.metrics.items()}
        metrics["epoch"] = self.state.epoch
        self.log(metrics)
        self.control: TrainerControl = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """Checkpoints need no card; the finished folder gets llmrec's."""


def _add_level_loss(model: PreTrainedModel, items: ItemTokenizer, dropout: float, label_smoothing: float) -> None:
    """`model(..., level_loss=True)` returns the summed level loss; through `forward`, so that DDP and FSDP see it."""
    original = model.forward

    def forward(self: PreTrainedModel, *args: Any, level_loss: bool = False, **kwargs: Any) -> Any:
        if not level_loss:
            return original(*args, **kwargs)
        labels = kwargs.pop("labels")[:, 1:]  # (B, T - 1)
        hidden = self.get_decoder()(*args, **kwargs).last_hidden_state[:, :-1]  # (B, T - 1, D)
        trained = labels != IGNORED
        rows = item_head_rows(self, items)
        states = torch.nn.functional.dropout(hidden[trained], dropout, self.training)  # (n, D)
        loss = level_softmax_loss(self, items, rows, states, labels[trained], label_smoothing)
        return CausalLMOutput(loss=loss)

    model.forward = types.MethodType(forward, model)


def _show_bias(head: Any) -> None:
    """TRL's loss reads the bias of the head, and PEFT's wrapper of a layer with trainable tokens shows its weight only.

    In the instance's dict, where it is neither a second parameter nor part of a checkpoint.
    """
    if not hasattr(head, "bias"):
        head.__dict__["bias"] = getattr(head.token_adapter.base_layer, "bias", None)


def _lora_config(settings: SFT, model: PreTrainedModel, items: ItemTokenizer) -> LoraConfig:
    """PEFT's configuration with the item rows trainable, in the embedding and in the head (PEFT follows tying)."""
    ids = items.new_token_ids.tolist()
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    holders = [embedding] if head.weight is embedding.weight else [embedding, head]
    names = [name.rpartition(".")[2] for name, module in model.named_modules() if module in holders]
    try:
        return LoraConfig(
            **{"task_type": "CAUSAL_LM", "target_modules": "all-linear", **settings.lora},
            trainable_token_indices={name: ids for name in names},
        )
    except TypeError as error:
        raise RecipeError(f"train.lora: {error}. The fields are those of peft.LoraConfig.") from error


def _last_checkpoint(output: Path) -> str | None:
    """The newest complete checkpoint; the trainer state is written last, so half of one or none means a kill."""
    complete = [path.parent for path in output.glob("checkpoint-*/trainer_state.json") if _is_json(path)]
    return str(max(complete, key=lambda path: int(path.name.split("-")[1]))) if complete else None


def _is_json(path: Path) -> bool:
    try:
        json.loads(path.read_text())
    except ValueError:
        return False
    return True
