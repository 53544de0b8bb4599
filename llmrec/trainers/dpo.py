"""Preference alignment: TRL's `DPOTrainer` with many negatives for one prompt, which is computed once.

What is ours: the rows (pre-tokenized, from train rows only), the log-probabilities (over a level's codebook, the prompt
shared), `dpo` and `s_dpo` over all negatives of a choice, and an evaluation that recommends. With `loss: trl` TRL's own
`loss_type`s get the same log-probabilities, one pair a negative.

The reference is the model before this stage. With LoRA it is the same weights with the adapter switched off; with full
fine-tuning its log-probabilities are computed once before the first step. A second model is never in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import torch
from datasets import Dataset
from peft import PeftModel
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader
from tqdm.auto import tqdm
from transformers import PreTrainedModel, TrainerCallback
from trl import DPOConfig, DPOTrainer
from trl.models.utils import disable_gradient_checkpointing

from llmrec.data.interactions import Interactions
from llmrec.data.split import Examples
from llmrec.engines.support import check_length
from llmrec.recommenders.llm import Decoding, LLMRecommender
from llmrec.tasks.next_item import NextItemTask
from llmrec.tasks.preferences import PreferenceData
from llmrec.trainers.base import RecommendingTrainer, TrainerSettings, last_checkpoint
from llmrec.trainers.completions import CompletionScores, Over, add_completion_scores
from llmrec.trainers.item_rows import train_item_rows_only
from llmrec.trainers.losses.dpo import dpo_loss
from llmrec.trainers.losses.s_dpo import s_dpo_loss
from llmrec.trainers.preference_samples import REFERENCE, PackChoices, preference_dataset
from llmrec.trainers.samples import IGNORED

LOSSES: dict[str, Callable[[Tensor, Tensor, Tensor, float], Tensor]] = {"dpo": dpo_loss, "s_dpo": s_dpo_loss}
OF_TRL = ("loss_type", "loss_weights", "label_smoothing", "f_divergence_type", "use_weighting")
"""Fields of TRL's configuration that change TRL's own losses only."""


class PreferenceSettings(TrainerSettings):
    """What is the same whatever is preferred to what; `args` goes unchanged into TRL's `DPOConfig`.

    Args:
        loss: `s_dpo` (all negatives of a choice at once), `dpo` (the mean of its pairs) or `trl` (`args.loss_type` on
            every pair).
        nll_weight: weight of the ordinary loss on the chosen item or list, the mean over its tokens (as `rpo_alpha` of
            Pang et al., 2024). Without it DPO may lower the chosen one too, if it lowers the rejected ones more.
            With `loss: trl` name the loss `sft` in `args.loss_type` instead.
        over: the log-probability of an item is taken over each level's codebook (`level`, as `normalize: codebook`
            decodes) or over the whole vocabulary (`vocab`).
    """

    where: ClassVar[str] = "align"

    tuning: Literal["full", "lora"] = "lora"
    loss: Literal["s_dpo", "dpo", "trl"] = "s_dpo"
    nll_weight: float = Field(0.0, ge=0)
    over: Over = "level"

    @model_validator(mode="after")
    def _settings_fit_together(self) -> Self:
        if self.loss == "trl" and self.nll_weight:
            raise ValueError(
                "nll_weight is not for loss: trl; write args: {loss_type: [sigmoid, sft], loss_weights: ...}"
            )
        if self.loss != "trl" and (unused := sorted(set(OF_TRL) & set(self.args))):
            raise ValueError(f"args.{unused[0]} is for loss: trl, and loss is {self.loss}; remove it or set loss: trl")
        if self.args.get("ld_alpha") is not None:
            raise ValueError("args.ld_alpha weighs the longer of two texts, and codes are no texts; remove it")
        if self.tuning == "full" and self.args.get("precompute_ref_log_probs") is False:
            raise ValueError(
                "with tuning: full the reference is computed beforehand, since llmrec keeps no second model in memory; "
                "remove args.precompute_ref_log_probs"
            )
        return self

    def config(self, output: Path, seed: int) -> DPOConfig:
        """TRL's configuration as this stage uses it.

        Raises:
            RecipeError: TRL does not know a field, or refuses a value.
        """
        beforehand = {"precompute_ref_log_probs": True}
        chosen = beforehand if self.tuning == "full" and "precompute_ref_log_probs" not in self.args else {}
        return self.trl_config(DPOConfig, output, seed, {"max_length": None, **chosen})

    def before(
        self, model: PreTrainedModel, task: NextItemTask, decoding: Decoding, config: DPOConfig
    ) -> LLMRecommender:
        """The model as it is before the stage, which proposes and is the reference.

        Raises:
            RecipeError: it was not trained with these item tokens, or not on all items.
        """
        self.check_trained(model, task)
        model.to(config.device)
        return LLMRecommender(model.eval(), task, decoding)

    def train_on(
        self,
        model: PreTrainedModel,
        rows: Dataset,
        ranker: LLMRecommender,
        config: DPOConfig,
        valid: Examples,
        exclude_seen: bool,
        callbacks: Sequence[TrainerCallback],
    ) -> tuple[LLMRecommender, dict[str, Any]]:
        """Train on preferences; resumes from the last checkpoint of `config.output_dir` if there is one.

        Args:
            rows: of `preference_dataset`. ranker: the same model, of `before`. The others are as in `SFT.train`.
        """
        task = ranker.task
        longest = max(len(code) for choices in rows["codes"] for codes in choices for code in codes)
        check_length(model, max(map(len, rows["prompt"])), longest)
        if self.tuning == "full":
            train_item_rows_only(model, task.items)
        trainer = PreferenceTrainer(
            model=model,
            args=config,
            task=task,
            settings=self,
            train_dataset=rows,
            valid=valid.sample(self.valid_users, config.seed),
            decoding=ranker.decoding,
            exclude_seen=exclude_seen,
            callbacks=callbacks,
        )
        return trainer.finished(trainer.train(resume_from_checkpoint=last_checkpoint(Path(config.output_dir))))


class DPO(PreferenceSettings):
    """Settings of the stage, beside those of `PreferenceSettings`.

    Args:
        preferences: which choices, and the rejected items.
    """

    preferences: PreferenceData = Field(default_factory=PreferenceData)

    @model_validator(mode="after")
    def _negatives_can_be_built(self) -> Self:
        self.preferences.samplers()
        return self

    def fingerprint(self) -> str:
        """That of the files which negatives come from."""
        return self.preferences.fingerprint()

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
        """Align a trained model; resumes from the last checkpoint in `output` if there is one.

        Args:
            model: one that was trained with these item tokens. The others are as in `SFT.train`.

        Returns:
            The recommender (of the best evaluation), and the log, with the number of `preferences`.

        Raises:
            RecipeError: the model was not trained with these item tokens, or not on all items.
        """
        config = self.config(output, seed)
        ranker = self.before(model, task, decoding or Decoding(), config)
        with arithmetic_of(config):
            found = self.preferences.build(train, task.items.index, seed, ranker)
        rows = preference_dataset(task, train, found)
        recommender, log = self.train_on(model, rows, ranker, config, valid, exclude_seen, callbacks)
        return recommender, {"preferences": len(found), **log}


def arithmetic_of(config: DPOConfig) -> AbstractContextManager[Any]:
    """What is decoded before training, in the arithmetic of training and of its evaluations."""
    return torch.autocast(config.device.type, torch.bfloat16) if config.bf16 else nullcontext()


class PreferenceTrainer(RecommendingTrainer, DPOTrainer):
    """`DPOTrainer` on rows of `preference_dataset`."""

    settings: PreferenceSettings

    def __init__(
        self,
        model: PreTrainedModel,
        args: DPOConfig,
        task: NextItemTask,
        settings: PreferenceSettings,
        train_dataset: Dataset,
        valid: Examples,
        decoding: Decoding,
        exclude_seen: bool,
        callbacks: Sequence[TrainerCallback] = (),
    ) -> None:
        self.task, self.settings, self.valid = task, settings, valid
        self.decoding, self.exclude_seen = decoding, exclude_seen
        tokenizer = task.items.tokenizer
        width = max(len(codes) for choices in train_dataset["codes"] for codes in choices)
        add_completion_scores(model, task.items, settings.over)
        super().__init__(
            model=model,
            args=args,
            train_dataset=train_dataset,
            eval_dataset=train_dataset.select(range(1)),  # the Trainer wants one; `evaluate` never reads it
            processing_class=tokenizer,
            data_collator=PackChoices(tokenizer.pad_token_id or 0, width),
            peft_config=settings.lora_config(model, task.items),
            callbacks=settings.callbacks(callbacks),
        )
        self.set_right()
        self.precompute_ref_logps = True  # `_compute_loss` below hands them to TRL with every batch
        self.aux_loss_enabled = False  # experts keep the balance that they have

    def _prepare_dataset(self, dataset: Dataset, *_: Any) -> Dataset:
        """Rows are token ids already."""
        return dataset

    def _precompute_ref_logps(self, dataset: Dataset, name: str, batch_size: int) -> Dataset:
        """With the column `reference`: of every row, of each choice, the log-probability of each item."""
        loader = DataLoader(dataset, batch_size=batch_size, collate_fn=self.data_collator)
        found: list[list[float]] = []
        was_training = self.model.training
        self.model.eval()
        for batch in tqdm(loader, desc="reference", leave=False, disable=self.args.disable_tqdm):
            found += self._reference(self._prepare_inputs(batch)).tolist()
        self.model.train(was_training)
        of_choice = iter(found)
        return dataset.add_column(REFERENCE, [[next(of_choice) for _ in starts] for starts in dataset["starts"]])

    def _reference(self, inputs: dict[str, Tensor]) -> Tensor:
        """Log-probabilities of a batch's items under the reference, `float32[P, C]`."""
        if REFERENCE in inputs:
            return inputs[REFERENCE]
        unwrapped = self.accelerator.unwrap_model(self.model)
        with (
            torch.no_grad(),
            disable_gradient_checkpointing(self.model, self.args.gradient_checkpointing_kwargs),
            self.accelerator.autocast(),
        ):
            if not isinstance(unwrapped, PeftModel):
                return self.model(**inputs).log_probs.sum(-1)
            with unwrapped.disable_adapter():
                return self.model(**inputs).log_probs.sum(-1)

    def _compute_loss(self, model: Any, inputs: dict[str, Tensor], return_outputs: bool) -> Any:
        reference = self._reference(inputs)
        scores = model(**{name: value for name, value in inputs.items() if name != REFERENCE})
        is_real = (inputs["targets"] != IGNORED).any(-1)  # (P, C)
        if self.settings.loss == "trl":
            as_pairs, pairs = _pairs(scores, inputs["targets"], reference, is_real)
            return super()._compute_loss(lambda **_: as_pairs, pairs, return_outputs)  # TRL calls the model: here it is
        ratios = scores.log_probs.sum(-1) - reference  # (P, C)
        losses = LOSSES[self.settings.loss](ratios[:, 0], ratios[:, 1:], is_real[:, 1:], self.beta)
        self._note(ratios.detach() * self.beta, is_real)
        chosen = (inputs["targets"][:, 0] != IGNORED).sum(-1)  # (P,) tokens
        losses = losses - self.settings.nll_weight * scores.log_probs[:, 0].sum(-1) / chosen
        return (losses.mean(), scores) if return_outputs else losses.mean()

    def _note(self, rewards: Tensor, is_real: Tensor) -> None:
        """TRL's figures by TRL's names; of several negatives the mean, and a choice counts when it beats them all."""
        chosen, rejected, real = rewards[:, 0], rewards[:, 1:], is_real[:, 1:]
        mean = rejected.masked_fill(~real, 0).sum(1) / real.sum(1)
        best = rejected.masked_fill(~real, -torch.inf).amax(1)
        figures = {
            "rewards/chosen": chosen,
            "rewards/rejected": mean,
            "rewards/margins": chosen - mean,
            "rewards/accuracies": (chosen > best).float(),
        }
        mode = "train" if self.model.training else "eval"
        for name, values in figures.items():
            self._metrics[mode][name].append(self.accelerator.gather(values.mean()).mean().item())


def _pairs(
    scores: CompletionScores, targets: Tensor, reference: Tensor, is_real: Tensor
) -> tuple[CompletionScores, dict[str, Tensor]]:
    """One pair a negative, as TRL has them: `Q` chosen items and behind them `Q` rejected ones.

    Returns:
        The scores, `(2Q, L)` each, and TRL's batch; its sequences are a place for the prompt and the code.
    """
    choice, negative = torch.nonzero(is_real[:, 1:], as_tuple=True)
    place = (torch.cat([choice, choice]), torch.cat([torch.zeros_like(negative), negative + 1]))
    codes = targets[place]  # (2Q, L)
    mask = functional.pad((codes != IGNORED).long(), (1, 0))
    batch = {
        "input_ids": functional.pad(codes.clamp(min=0), (1, 0)),
        "attention_mask": torch.cat([torch.ones_like(mask[:, :1]), mask[:, 1:]], dim=1),
        "completion_mask": mask,
        "ref_chosen_logps": reference[choice, 0],
        "ref_rejected_logps": reference[choice, negative + 1],
    }
    return CompletionScores(**{name: value[place] for name, value in scores.items()}), batch
