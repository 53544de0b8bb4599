"""Distillation: a small student learns from a trained recommender, on TRL's `SFTTrainer`.

    Distill(student={"layers": 2}).train(teacher, split.train, split.valid, Path("work"), seed=0)

What is ours: the student (`student.py`), the teacher's states, which are kept on the disk (`teacher.py`), the losses
(`objective.py` and `losses/`), and an evaluation that recommends.
"""

from __future__ import annotations

import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from datasets import Dataset
from pydantic import Field
from transformers import PreTrainedModel, TrainerCallback
from transformers.modeling_outputs import CausalLMOutput
from trl import SFTConfig, SFTTrainer

from llmrec.data.interactions import Interactions
from llmrec.data.split import Examples
from llmrec.engines.support import check_model
from llmrec.engines.tree_attention import added
from llmrec.errors import RecipeError
from llmrec.recommenders.llm import Decoding, LLMRecommender
from llmrec.tasks.next_item import NextItemTask
from llmrec.trainers.base import RecommendingTrainer, TrainerSettings, last_checkpoint
from llmrec.trainers.completions import completion_scores, tree_mask
from llmrec.trainers.distill_samples import PadDistillation, distillation_dataset
from llmrec.trainers.dropout import dropout
from llmrec.trainers.item_rows import train_item_rows_only
from llmrec.trainers.objective import PROJECTIONS, Losses, Objective, Projections, block_ends, final_norm
from llmrec.trainers.samples import IGNORED
from llmrec.trainers.student import Student
from llmrec.trainers.teacher import Teacher, block_states
from llmrec.trainers.teacher_lists import Lists, with_lists

TEACHER_TOKENS = 4096
"""Of a batch of the teacher alone, where the recipe does not say `batch_tokens`."""


class Distill(TrainerSettings):
    """Settings of the stage, beside those of `TrainerSettings`; `args` goes unchanged into TRL's `SFTConfig`.

    Args:
        student: which model learns. losses: from what. lists: of the teacher, for `losses.ranking`.
        blocks: parts of equally many layers whose ends are compared; as many as the smaller model has layers when None.
        keep_states: keep the teacher's states on the disk, as far as they fit, instead of running it in every epoch.
        packing, dropout, label_smoothing: as in `SFT`.
    """

    where: ClassVar[str] = "distill"
    one_process: ClassVar[bool] = True

    student: Student = Field(default_factory=Student)
    losses: Losses = Field(default_factory=Losses)
    lists: Lists = Field(default_factory=Lists)
    blocks: int | None = Field(None, ge=1)
    keep_states: bool = True
    packing: bool = True
    dropout: float = Field(0.0, ge=0, lt=1)
    label_smoothing: float = Field(0.0, ge=0, lt=1)

    def config(self, output: Path, seed: int) -> SFTConfig:
        """TRL's configuration as this stage uses it.

        Raises:
            RecipeError: TRL does not know a field, or refuses a value.
        """
        return self.trl_config(
            SFTConfig, output, seed, {"dataset_kwargs": {"skip_prepare_dataset": True}, "packing": False}
        )

    def train(
        self,
        teacher: LLMRecommender,
        train: Interactions,
        valid: Examples,
        output: Path,
        seed: int,
        decoding: Decoding | None = None,
        exclude_seen: bool = True,
        callbacks: Sequence[TrainerCallback] = (),
        states: Path | None = None,
    ) -> tuple[LLMRecommender, dict[str, Any]]:
        """Train a student; resumes from the last checkpoint in `output` if there is one.

        Args:
            teacher: a trained recommender; its weights stay as they are. states: folder for what it says, by content;
                in `output` when None. The others are as in `SFT.train`.

        Returns:
            The student (of the best evaluation), and the log, with the `parameters` of both models.

        Raises:
            RecipeError: the teacher was not trained on all items, or the losses and the models do not go together.
        """
        config, decoding = self.config(output, seed), decoding or teacher.decoding
        if (whole := teacher.model) is None:
            raise RecipeError(f"{self.where}: the teacher runs elsewhere. Load its folder without an engine.")
        if teacher.task.items.index.stand_ins is not None:
            raise RecipeError(
                f"{self.where}: the index has items that the teacher was not trained on. Train on them first (kind: "
                "sft, init: keep), then distil."
            )
        check_model(whole)
        home = whole.device
        model, task = self.student.make(whole, teacher.task, seed)
        depth, own_depth = (len(each.get_decoder().layers) for each in (whole, model))
        most = min(depth, own_depth)
        blocks = (self.blocks or most) if self.losses.need_blocks else 1
        if blocks > most:
            raise RecipeError(f"{self.where}.blocks is {blocks}; the smaller model has {most} layers.")
        sizes = {"teacher": whole.num_parameters(), "student": model.num_parameters()}
        asked = None
        if self.losses.need_states:
            asked = Teacher(whole.to(config.device), teacher.task.items, block_ends(depth, blocks))
            self._match_widths(model, asked, blocks, seed)
        rows = distillation_dataset(task, train, self.packing)
        folder, progress = states or output, not config.disable_tqdm
        if self.losses.ranking:
            asking = LLMRecommender(whole.to(config.device).eval(), teacher.task, teacher.decoding)
            rows = with_lists(rows, task, asking, train, self.lists, exclude_seen, folder, progress)
        rows, kept = self._join(rows, asked, teacher.task, train, folder, progress)
        if self.tuning == "full":
            train_item_rows_only(model, task.items)
        trainer = DistillationTrainer(
            model=model,
            args=config,
            task=task,
            settings=self,
            train_dataset=rows,
            collator=PadDistillation(task.items.tokenizer.pad_token_id or 0, kept, self.lists.items),
            teacher=asked,
            blocks=block_ends(own_depth, blocks),
            valid=valid.sample(self.valid_users, seed),
            decoding=decoding,
            exclude_seen=exclude_seen,
            callbacks=callbacks,
        )
        with dropout(trainer.bare_model, self.dropout):
            result = trainer.train(resume_from_checkpoint=last_checkpoint(output))
        whole.to(home)
        recommender, log = trainer.finished(result)
        return recommender, {"parameters": sizes, **log}

    def _match_widths(self, model: PreTrainedModel, teacher: Teacher, blocks: int, seed: int) -> None:
        """Matrices to the teacher's width where states of another width are compared."""
        width = model.get_input_embeddings().embedding_dim
        if not self.losses.block_features or width == teacher.width:
            return
        if self.tuning == "lora":
            raise RecipeError(
                f"{self.where}: losses.block_features compares states of {width} and {teacher.width} numbers through "
                "matrices that train, which tuning: lora does not. Set tuning: full, or block_features: 0."
            )
        torch.manual_seed(seed)
        model.add_module(PROJECTIONS, Projections(blocks, width, teacher.width))

    def _join(
        self,
        rows: Dataset,
        teacher: Teacher | None,
        task: NextItemTask,
        train: Interactions,
        folder: Path,
        progress: bool,
    ) -> tuple[Dataset, Any]:
        """The student's rows and the states that the teacher keeps for them; where it keeps none, with its rows."""
        if teacher is None:
            return rows, None
        theirs = distillation_dataset(task, train, self.packing)
        if self.keep_states:
            kept = teacher.kept_states(theirs, folder, self.batch_tokens or TEACHER_TOKENS, progress)
            if kept is not None:
                teacher.model.to("cpu")  # it is not asked again
                return rows, kept
        for name, column in (("teacher_ids", "input_ids"), ("teacher_labels", "labels")):
            rows = rows.add_column(name, theirs[column])
        return rows, None


class DistillationTrainer(RecommendingTrainer, SFTTrainer):
    """`SFTTrainer` on rows of `distillation_dataset`."""

    settings: Distill

    def __init__(
        self,
        model: PreTrainedModel,
        args: SFTConfig,
        task: NextItemTask,
        settings: Distill,
        train_dataset: Dataset,
        collator: PadDistillation,
        teacher: Teacher | None,
        blocks: Sequence[int],
        valid: Examples,
        decoding: Decoding,
        exclude_seen: bool,
        callbacks: Sequence[TrainerCallback] = (),
    ) -> None:
        self.task, self.settings, self.valid = task, settings, valid
        self.decoding, self.exclude_seen, self.teacher = decoding, exclude_seen, teacher
        super().__init__(
            model=model,
            args=args,
            train_dataset=train_dataset,
            eval_dataset=train_dataset.select(range(1)),  # the Trainer wants one; `evaluate` never reads it
            processing_class=task.items.tokenizer,
            data_collator=collator,
            peft_config=settings.lora_config(model, task.items),
            callbacks=settings.callbacks(callbacks),
        )
        self.set_right()
        self.objective = Objective(
            settings.losses,
            task.items,
            task.items.trie.to(args.device),
            teacher,
            final_norm(self.bare_model) if settings.losses.multi_level else None,
            settings.lists.temperature,
            settings.dropout,
            settings.label_smoothing,
        )
        _add_objective(self.bare_model, self.objective, blocks)

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The mean over trained tokens, also across accumulation steps and processes."""
        visible = inputs.pop("attention_mask")  # see `RecommenderTrainer.compute_loss`
        if "teacher_ids" in inputs:
            assert self.teacher is not None
            inputs["teacher_states"] = self.teacher.states(inputs.pop("teacher_ids"), inputs.pop("teacher_labels"))
        sums = model(**inputs, distilled=True).logits  # (losses,)
        own = (inputs["labels"] != IGNORED).sum()
        tokens = own if num_items_in_batch is None else num_items_in_batch
        loss = self.objective.weighted(sums) / torch.as_tensor(tokens).clamp(min=1)
        if self.args.average_tokens_across_devices and num_items_in_batch is not None:
            loss = loss * self.accelerator.num_processes  # gradients are averaged over processes afterwards
        for name, value in zip(self.objective.names, sums.detach() / own.clamp(min=1), strict=True):
            self._metrics["train"][name].append(self.accelerator.gather(value).mean().item())
        self._total_train_tokens += int(self.accelerator.gather_for_metrics(visible.sum()).sum())
        self._metrics["train"]["num_tokens"] = [self._total_train_tokens]
        return (loss, sums) if return_outputs else loss

    def finished(self, result: Any) -> tuple[LLMRecommender, dict[str, Any]]:
        """See `RecommendingTrainer.finished`; what only the training needed is taken off."""
        if hasattr(self.bare_model, PROJECTIONS):
            delattr(self.bare_model, PROJECTIONS)
        return super().finished(result)


def _add_objective(model: PreTrainedModel, objective: Objective, blocks: Sequence[int]) -> None:
    """`model(..., distilled=True)` returns the sum of each loss; through `forward`, so that DDP and FSDP see it."""
    original = model.forward

    def forward(self: PreTrainedModel, *args: Any, distilled: bool = False, **kwargs: Any) -> Any:
        if not distilled:
            return original(*args, **kwargs)
        labels, nodes = (kwargs[name][:, 1:] for name in ("labels", "nodes"))  # (B, T - 1)
        trained = labels != IGNORED
        inputs = {"input_ids": kwargs["input_ids"]}
        if has_lists := "teacher_scores" in kwargs:
            inputs["position_ids"] = kwargs["position_ids"]
            inputs["attention_mask"] = added(tree_mask(kwargs["branches"], kwargs["seen"]), self.dtype)
        states, last = block_states(self, inputs, trained, blocks)  # (n, blocks, D), (B, T, D)
        sums = objective(self, states, labels[trained], nodes[trained], kwargs.get("teacher_states"))
        if has_lists:
            targets = kwargs["targets"]  # (P, K, L)
            scores = completion_scores(self, objective.items, "level", last, kwargs["states"], targets)
            assert scores.log_probs is not None
            is_real = (targets != IGNORED).any(-1)
            sums = sums + objective.of_lists(scores.log_probs.sum(-1), kwargs["teacher_scores"], is_real)
        return CausalLMOutput(logits=sums)

    model.forward = types.MethodType(forward, model)
