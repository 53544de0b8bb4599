"""Supervised fine-tuning: TRL's `SFTTrainer`, with packed histories and a loss over the level's codebook."""

from __future__ import annotations

import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self

import torch
from pydantic import Field, model_validator
from torch.nn import functional
from transformers import PreTrainedModel, TrainerCallback
from transformers.modeling_outputs import CausalLMOutput
from trl import SFTConfig, SFTTrainer

from llmrec.data.interactions import Interactions
from llmrec.data.split import Examples
from llmrec.engines.head import finish_logits, head_bias
from llmrec.indexes.item_tokenizer import ItemTokenizer
from llmrec.recommenders.llm import Decoding, LLMRecommender
from llmrec.registry import build
from llmrec.tasks.alignment.base import AlignmentTask
from llmrec.tasks.lists import ListData
from llmrec.tasks.next_item import NextItemTask
from llmrec.tasks.template import PromptTemplate
from llmrec.trainers.base import RecommendingTrainer, TrainerSettings, last_checkpoint
from llmrec.trainers.dropout import dropout
from llmrec.trainers.item_rows import Init, add_item_rows, item_head_rows, train_item_rows_only
from llmrec.trainers.losses.level_softmax import level_softmax_loss
from llmrec.trainers.samples import IGNORED, PadRight, training_dataset


class SFT(TrainerSettings):
    """Settings of the stage, beside those of `TrainerSettings`; `args` goes unchanged into TRL's `SFTConfig`.

    Args:
        packing: one sample a user trains all positions in one pass.
        loss: `level` (the level's codebook) or `vocab` (the whole head, TRL's own loss).
        init: first values of the item rows.
        dropout: share of activations dropped, see `llmrec.trainers.dropout`; with `loss: level` also before the head.
        label_smoothing: share of a target spread over its codebook; for `loss: level`.
        lists: lists that are learned beside the single items, one sample each; none when None.
        tasks: tasks in plain language that are learned beside them, each with its settings and a `weight`; see
            `llmrec.tasks.alignment`. The first that finds items by words gives the wording of requests.
    """

    packing: bool = True
    loss: Literal["level", "vocab"] = "level"
    init: Init = "text"
    dropout: float = Field(0.0, ge=0, lt=1)
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    lists: ListData | None = None
    tasks: list[dict[str, Any]] = []

    def beside(self) -> list[AlignmentTask]:
        """The tasks, built.

        Raises:
            RecipeError: one is unknown, or a setting of it.
        """
        return [build("task", settings, f"{self.where}.tasks") for settings in self.tasks]

    def fingerprint(self) -> str:
        """Changes when a wording of the tasks changes; see `Component.fingerprint`."""
        return "".join(task.fingerprint() for task in self.beside())

    @model_validator(mode="after")
    def _settings_fit_together(self) -> Self:
        if self.label_smoothing and self.loss == "vocab":
            raise ValueError("label_smoothing works with loss: level only; set it to 0")
        self.beside()
        if self.loss == "level" and self.args.get("label_smoothing_factor"):
            raise ValueError("args.label_smoothing_factor is for loss: vocab; with loss: level set label_smoothing")
        return self

    def config(self, output: Path, seed: int) -> SFTConfig:
        """TRL's configuration as this stage uses it.

        Raises:
            RecipeError: TRL does not know a field, or refuses a value.
        """
        # TRL's packing joins users; ours trains all positions of one.
        ours = {"max_length": None, "dataset_kwargs": {"skip_prepare_dataset": True}, "packing": False}
        return self.trl_config(SFTConfig, output, seed, ours)

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
        if finding := [one for one in self.beside() if one.finds_by_words]:
            task = task.searched_by(PromptTemplate(finding[0].wordings()[0]))
        add_item_rows(model, task.items, task.catalog, self.init, seed)
        if self.tuning == "full":
            train_item_rows_only(model, task.items)
        trainer = RecommenderTrainer(
            model=model,
            args=config,
            task=task,
            settings=self,
            train_dataset=training_dataset(
                *(task, train, self.packing, None if self.lists is None else self.lists.build(train, seed)),
                *(self.beside(), seed),
            ),
            valid=valid.sample(self.valid_users, seed),
            decoding=decoding,
            exclude_seen=exclude_seen,
            callbacks=callbacks,
        )
        with dropout(trainer.bare_model, self.dropout):
            result = trainer.train(resume_from_checkpoint=last_checkpoint(output))
        return trainer.finished(result)


class RecommenderTrainer(RecommendingTrainer, SFTTrainer):
    """`SFTTrainer` with the level loss, batches by tokens, and an evaluation that recommends."""

    settings: SFT

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
        super().__init__(
            model=model,
            args=args,
            train_dataset=train_dataset,
            eval_dataset=train_dataset.select(range(1)),  # the Trainer wants one; `evaluate` below never reads it
            processing_class=tokenizer,
            data_collator=PadRight(tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0),
            peft_config=settings.lora_config(model, task.items),
            callbacks=settings.callbacks(callbacks),
        )
        self.set_right()
        if settings.loss == "level":
            _add_level_loss(self.bare_model, task.items, settings.dropout, settings.label_smoothing)
        elif settings.tuning == "lora":
            _show_bias(self.bare_model)

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
        states = functional.dropout(hidden[trained], dropout, self.training)  # (n, D)
        targets = labels[trained]
        loss = level_softmax_loss(self, items, rows, states, targets, label_smoothing)
        words = items.places(states.device)[targets] < 0  # answers in plain language: the whole vocabulary
        if bool(words.any()):
            logits = finish_logits(self, self.get_output_embeddings()(states[words]).float())
            loss = loss + functional.cross_entropy(logits, targets[words], reduction="sum")
        return CausalLMOutput(loss=loss)

    model.forward = types.MethodType(forward, model)


def _show_bias(model: PreTrainedModel) -> None:
    """TRL's loss reads the bias of the head, and PEFT's wrapper of a layer with trainable tokens shows its weight only.

    In the instance's dict, where it is neither a second parameter nor part of a checkpoint.
    """
    head = model.get_output_embeddings()
    if not hasattr(head, "bias"):
        head.__dict__["bias"] = head_bias(model)
