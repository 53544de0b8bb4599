"""Training of an item-projection head and the language model below it: every position of a history in one pass.

The state in front of an item is asked for that item, among all items of the catalog; see
`llmrec.trainers.losses.item_softmax`. Prompts, packing, batches by tokens, validation by recommending and checkpoints
are those of fine-tuning.
"""

from __future__ import annotations

import types
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from datasets import Dataset
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel, TrainerCallback
from transformers.modeling_outputs import CausalLMOutput
from trl import SFTConfig, SFTTrainer

from llmrec.data.catalog import Catalog
from llmrec.data.interactions import Interactions
from llmrec.data.split import Examples
from llmrec.engines.states import ItemInputs
from llmrec.indexes.item_slots import ItemSlots
from llmrec.recommenders.item_head import Asking, ItemHeadRecommender, with_slots
from llmrec.recommenders.item_projection import ItemProjection
from llmrec.recommenders.llm import Decoding
from llmrec.registry import build
from llmrec.tasks.next_item import NextItemTask
from llmrec.trainers.base import RecommendingTrainer, TrainerSettings, last_checkpoint
from llmrec.trainers.dropout import dropout
from llmrec.trainers.item_rows import Init, add_item_rows, train_item_rows_only
from llmrec.trainers.losses.item_softmax import chances_of, item_softmax_loss, sampled_item_softmax_loss
from llmrec.trainers.samples import IGNORED, PadRight, samples_by_user
from llmrec.types import Rows

HEAD = "item_head"
"""Where the head hangs in the language model while both train, so that checkpoints hold it."""


class ItemHead(TrainerSettings):
    """Settings of the stage, beside those of `TrainerSettings`; `args` goes unchanged into TRL's `SFTConfig`.

    Args:
        encoder: what makes the frozen text vectors, such as `{"kind": "tfidf"}`; None for a learned table alone.
        dimensions: of item vectors. Scoring a catalog costs this many multiplications an item.
        history: what the model reads of an item: the tokens of its `codes`, or its one vector (`vectors`).
        packing: one sample a user trains all positions in one pass.
        init: first values of the codes' rows.
        head_lr: learning rate of the head; that of `args` when None.
        softmax_items: up to so many items the softmax is over all; `negatives` are drawn where there are more.
        dropout: share of activations dropped, see `llmrec.trainers.dropout`; also before the head.
        label_smoothing: share of a target spread over the catalog; for the full softmax.
    """

    makes: ClassVar[str] = ItemHeadRecommender.kind

    encoder: dict[str, Any] | None = None
    dimensions: int = Field(64, ge=1)
    history: Literal["codes", "vectors"] = "codes"
    packing: bool = True
    init: Init = "text"
    head_lr: float | None = Field(None, gt=0)
    softmax_items: int = Field(100_000, ge=1)
    negatives: int = Field(8192, ge=1)
    dropout: float = Field(0.0, ge=0, lt=1)
    label_smoothing: float = Field(0.0, ge=0, lt=1)

    @model_validator(mode="after")
    def _settings_fit_together(self) -> Self:
        if self.tuning != "full":
            raise ValueError("a checkpoint of LoRA would not hold the item head; set tuning: full")
        if self.encoder is not None:
            build("encoder", self.encoder, f"{self.where}.encoder")  # a misspelt one is refused when the recipe is read
        return self

    def config(self, output: Path, seed: int) -> SFTConfig:
        """TRL's configuration as this stage uses it.

        Raises:
            RecipeError: TRL does not know a field, or refuses a value.
        """
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
    ) -> tuple[ItemHeadRecommender, dict[str, Any]]:
        """Train a head on a base model; resumes from the last checkpoint in `output` if there is one.

        Args:
            model: a base model. task: prompts and codes. train: train rows only. valid: validation questions.
            output: folder of checkpoints. seed: of weights, order, draws and dropout.
            decoding: of it only `batch_size` counts. exclude_seen: in validation. callbacks: more for the Trainer.

        Returns:
            The recommender (of the best evaluation), and the log: every evaluation, the loss, seconds, tokens.
        """
        config = self.config(output, seed)
        if self.history == "vectors":
            task = with_slots(task)
            model.get_input_embeddings().requires_grad_(False)
        else:
            add_item_rows(model, task.items, task.catalog, self.init, seed)
            train_item_rows_only(model, task.items)
        torch.manual_seed(seed)
        text = self._text(task.catalog, train)
        width = model.get_input_embeddings().embedding_dim
        head = ItemProjection(text, width, self.dimensions, reads=self.history == "vectors")
        head.match_scale(model.get_input_embeddings().weight)
        model.add_module(HEAD, head)
        trainer = ItemHeadTrainer(
            model, config, task, self, train, valid.sample(self.valid_users, seed), decoding or Decoding(),
            exclude_seen, callbacks,
        )  # fmt: skip
        with dropout(trainer.bare_model, self.dropout):
            result = trainer.train(resume_from_checkpoint=last_checkpoint(output))
        return trainer.finished(result)

    def _text(self, catalog: Catalog, train: Interactions) -> Tensor:
        if self.encoder is None:
            return torch.zeros(len(catalog), 0)
        return torch.from_numpy(build("encoder", self.encoder).fit(catalog, train).vectors)


def item_samples(task: NextItemTask, train: Interactions, packing: bool) -> Iterator[tuple[list[int], list[int], Rows]]:
    """Every training sample: token ids, the places where a trained item begins, and these items.

    What stands behind the last of these places is left out: it would be read for nothing.
    """
    for history, samples in zip(train.histories, samples_by_user(task, train, packing), strict=True):
        end = len(history) if packing else 1
        for ids, levels in samples:
            places = [place for place, level in enumerate(levels) if level == 0]
            rows = history[end - len(places) : end]
            end += -len(places) if packing else 1  # packed samples come from the end of a history, single ones in order
            if places:
                yield ids[: places[-1] + 1], places, rows


def item_dataset(task: NextItemTask, train: Interactions, packing: bool) -> Dataset:
    """A `datasets.Dataset` with `input_ids`, `labels` (an item's row where it begins, otherwise -100) and `length`."""
    columns: dict[str, list[list[int]]] = {"input_ids": [], "labels": []}
    for ids, places, rows in item_samples(task, train, packing):
        labels = np.full(len(ids), IGNORED)
        labels[places] = rows
        columns["input_ids"].append(ids)
        columns["labels"].append(labels.tolist())
    return Dataset.from_dict({**columns, "length": [len(ids) for ids in columns["input_ids"]]})


class ItemHeadTrainer(RecommendingTrainer, SFTTrainer):
    """`SFTTrainer` with the loss over items, and an evaluation that recommends."""

    settings: ItemHead

    def __init__(
        self,
        model: PreTrainedModel,
        args: SFTConfig,
        task: NextItemTask,
        settings: ItemHead,
        train: Interactions,
        valid: Examples,
        decoding: Decoding,
        exclude_seen: bool,
        callbacks: Sequence[TrainerCallback] = (),
    ) -> None:
        self.task, self.settings, self.valid = task, settings, valid
        self.decoding, self.exclude_seen = decoding, exclude_seen
        self.head: ItemProjection = getattr(model, HEAD)
        rows, tokenizer = item_dataset(task, train, settings.packing), task.items.tokenizer
        super().__init__(
            model=model,
            args=args,
            train_dataset=rows,
            eval_dataset=rows.select(range(1)),  # the Trainer wants one; `evaluate` never reads it
            processing_class=tokenizer,
            data_collator=PadRight(tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0),
            callbacks=settings.callbacks(callbacks),
        )
        self.set_right()
        counts = np.bincount(train.item_rows, minlength=len(task.catalog))
        _add_item_loss(self.bare_model, self.head, task, settings, chances_of(counts).to(args.device))

    def create_optimizer(self, *args: Any, **kwargs: Any) -> torch.optim.Optimizer:
        """See `RecommendingTrainer.create_optimizer`; the head gets its own learning rate and no decay."""
        optimizer: torch.optim.Optimizer = super().create_optimizer(*args, **kwargs)
        if self.settings.head_lr is not None:
            ours = {id(parameter) for parameter in self.head.parameters()}
            for group in list(optimizer.param_groups):
                mine = [parameter for parameter in group["params"] if id(parameter) in ours]
                if mine:
                    group["params"] = [parameter for parameter in group["params"] if id(parameter) not in ours]
                    rest = {name: value for name, value in group.items() if name != "params"}
                    changed = {"params": mine, "lr": self.settings.head_lr, "weight_decay": 0.0}
                    optimizer.add_param_group({**rest, **changed})
        return optimizer

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The mean over trained items, also across accumulation steps and processes."""
        visible = inputs.pop("attention_mask")  # see `RecommenderTrainer.compute_loss`
        outputs = model(**inputs, item_loss=True)
        items = (inputs["labels"] != IGNORED).sum() if num_items_in_batch is None else num_items_in_batch
        loss = outputs.loss / torch.as_tensor(items).clamp(min=1)
        if self.args.average_tokens_across_devices and num_items_in_batch is not None:
            loss = loss * self.accelerator.num_processes  # gradients are averaged over processes afterwards
        self._total_train_tokens += int(self.accelerator.gather_for_metrics(visible.sum()).sum())
        self._metrics["train"]["num_tokens"] = [self._total_train_tokens]
        return (loss, outputs) if return_outputs else loss

    def recommender(self, model: PreTrainedModel) -> ItemHeadRecommender:
        """The head on the model as it is now."""
        return ItemHeadRecommender(model, self.task, self.head, Asking(batch_size=self.decoding.batch_size))

    def finished(self, result: Any) -> tuple[ItemHeadRecommender, dict[str, Any]]:
        """See `RecommendingTrainer.finished`; the head stands beside the model again."""
        delattr(self.bare_model, HEAD)
        self.head.eval().requires_grad_(False)
        self.bare_model.get_input_embeddings().requires_grad_(True)
        return super().finished(result)


def _add_item_loss(
    model: PreTrainedModel, head: ItemProjection, task: NextItemTask, settings: ItemHead, chances: Tensor
) -> None:
    """`model(..., item_loss=True)` returns the summed loss; through `forward`, so that DDP and FSDP see it."""
    original, slots = model.forward, task.items

    def inputs(ids: Tensor) -> dict[str, Tensor]:
        if not isinstance(slots, ItemSlots):
            return {"input_ids": ids}
        embedded = ItemInputs(slots.first, lambda rows: head.inputs(head.vectors(rows))).embed(
            model.get_input_embeddings(), ids
        )
        dropped = functional.dropout(embedded, settings.dropout, model.training)  # words were dropped where embedded
        return {"inputs_embeds": torch.where((ids >= slots.first)[..., None], dropped, embedded)}

    def forward(self: PreTrainedModel, *args: Any, item_loss: bool = False, **kwargs: Any) -> Any:
        if not item_loss:
            return original(*args, **kwargs)
        labels = kwargs["labels"][:, 1:]  # (B, T - 1)
        hidden = self.get_decoder()(**inputs(kwargs["input_ids"]), use_cache=False).last_hidden_state[:, :-1]
        trained = labels != IGNORED
        queries = head.queries(functional.dropout(hidden[trained], settings.dropout, self.training))  # (n, D)
        with torch.autocast(queries.device.type, enabled=False):
            if len(task.catalog) <= settings.softmax_items:
                loss = item_softmax_loss(head, queries, labels[trained], settings.label_smoothing)
            else:
                loss = sampled_item_softmax_loss(head, queries, labels[trained], chances, settings.negatives)
        return CausalLMOutput(loss=loss)

    model.forward = types.MethodType(forward, model)
