"""Reinforcement by groups: TRL's `GRPOTrainer` with rollouts that are real items, whose prompt is computed once.

GRPO (Shao et al. 2024, https://arxiv.org/abs/2402.03300) lets the model propose a group of items after a history,
rewards each, and makes those likelier that are better than their group. Rewards, advantages, loss and logs are TRL's.
What is ours: the rollouts (a group is a list of the constrained engine, see `llmrec.trainers.rollouts`), their
log-probabilities (the prompt once for the whole group, over a level's codebook), the rewards, an evaluation that
recommends, and a watch on the divergence from the reference.

The reference is the model before this stage: the same weights with the LoRA adapter switched off. A second model is
never in memory, so with full fine-tuning there is no reference, and `beta` must be 0.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from datasets import Dataset
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel, TrainerCallback
from trl import GRPOConfig, GRPOTrainer
from trl.trainer.utils import split_tensor_dict

from llmrec.data.interactions import Interactions
from llmrec.data.split import Examples
from llmrec.engines.transformers import TransformersEngine
from llmrec.errors import DataError, RecipeError
from llmrec.recommenders.llm import Decoding, LLMRecommender
from llmrec.tasks.next_item import NextItemTask
from llmrec.tasks.positions import Positions
from llmrec.trainers.base import RecommendingTrainer, TrainerSettings, last_checkpoint
from llmrec.trainers.batches import GroupSampler
from llmrec.trainers.callbacks import KLWatch
from llmrec.trainers.completions import Over, add_completion_scores, grouped
from llmrec.trainers.item_rows import model_for_decoding, train_item_rows_only
from llmrec.trainers.rewards.mixture import Mixture, Rewards
from llmrec.trainers.rollouts import From, Questions, Rollouts, reward_for_trl

OF_GENERATE = frozenset(
    "top_p top_k min_p repetition_penalty generation_kwargs cache_implementation max_completion_length use_vllm "
    "use_transformers_continuous_batching use_transformers_paged chat_template_kwargs".split()
)
"""Fields of TRL's configuration that steer the free generation of text, which does not take place here."""

REFUSED = {
    "mask_truncated_completions": "would mask every item, since codes end without a token",
    "sync_ref_model": "needs a second model in memory",
    "cast_lm_head_to_fp32": "is for TRL's head; here the softmax is taken in float32 as it is",
    "log_completions": "prints on stdout, where results belong",
}
"""Fields that must not be switched on, and why."""


class GRPO(TrainerSettings):
    """Settings of the stage, beside those of `TrainerSettings`; `args` goes unchanged into TRL's `GRPOConfig`.

    `args.num_generations` is the size of a group; `args.per_device_train_batch_size` counts rollouts, a multiple of it.

    Args:
        choices: after which histories the model is asked.
        rewards: one or several, each with its settings and a `weight`.
        rollouts: `beams` (the best items of a search, all different, as in MiniOneRec) or `samples` (drawn with
            `args.temperature`, with replacement).
        over: the probability of an item is taken over each level's codebook (`level`) or the whole vocabulary
            (`vocab`).
        kl_limit: training stops when the divergence from the reference, in nats a token as TRL logs it, is above this;
            never when None. It stops in any case when that is no finite number. At 10 the tokens of rollouts have
            become 13 times less likely than they were.
    """

    where: ClassVar[str] = "align"
    one_process: ClassVar[bool] = True

    tuning: Literal["full", "lora"] = "lora"
    choices: Positions = Field(default_factory=Positions)
    rewards: Rewards = [{"kind": "next_item"}, {"kind": "rank_penalty"}]
    rollouts: From = "beams"
    over: Over = "level"
    kl_limit: float | None = Field(10.0, gt=0)

    @model_validator(mode="after")
    def _settings_fit_together(self) -> Self:
        if unused := sorted(OF_GENERATE & set(self.args)):
            raise ValueError(
                f"args.{unused[0]} is for generating text, and rollouts are items of the constrained engine; remove it"
            )
        for name, why in REFUSED.items():
            if self.args.get(name):
                raise ValueError(f"args.{name} {why}; remove it")
        if self.args.get("temperature", 1.0) != 1.0 and self.rollouts == "beams":
            raise ValueError("args.temperature is for rollouts: samples, and beams are not drawn; remove it")
        if self.args.get("beta") and self.tuning == "full":
            raise ValueError(
                "args.beta needs the model of before, and llmrec keeps no second model in memory. Set tuning: lora, "
                "whose reference is the same weights without the adapter, or args.beta: 0"
            )
        if self.batch_tokens is not None:
            raise ValueError("batch_tokens: rollouts are not known beforehand. Set args.per_device_train_batch_size")
        return self

    def fingerprint(self) -> str:
        """That of the files which rewards read."""
        return Mixture.of(self.rewards).fingerprint()

    def config(self, output: Path, seed: int) -> GRPOConfig:
        """TRL's configuration as this stage uses it.

        Raises:
            RecipeError: TRL does not know a field, or refuses a value; a batch would cut a group; a checkpoint would
                fall between the rollouts and their last use.
        """
        weights = list(Mixture.of(self.rewards).weights)
        # TRL checks the batch of evaluations against the group, though ours recommend.
        ours = {"reward_weights": weights, "per_device_eval_batch_size": self.args.get("num_generations", 8)}
        config: GRPOConfig = self.trl_config(GRPOConfig, output, seed, ours)
        if config.per_device_train_batch_size % config.num_generations:
            raise RecipeError(
                f"{self.where}.args.per_device_train_batch_size is {config.per_device_train_batch_size}, which cuts "
                f"groups of num_generations = {config.num_generations}. Give a multiple of it; a group shares a prompt."
            )
        every = config.steps_per_generation * config.num_iterations
        steps = config.save_steps * config.gradient_accumulation_steps
        if config.save_strategy == "steps" and steps % every:
            raise RecipeError(
                f"{self.where}.args.eval_steps (save_steps without evaluations) is {config.save_steps}, so checkpoints "
                "would fall between rollouts and their last use, and a run that was killed could not go on as it was. "
                "eval_steps x gradient_accumulation_steps must be a multiple of steps_per_generation x num_iterations, "
                f"which is {every}."
            )
        return config

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
            model: one that was trained with these item tokens. exclude_seen: in validation and in rollouts. The others
                are as in `SFT.train`.

        Returns:
            The recommender (of the best evaluation), and the log, with the number of `choices`, and why training
            `stopped` where the watch stopped it.

        Raises:
            RecipeError: the model was not trained with these item tokens, or not on all items.
            DataError: no choice is left.
        """
        config, decoding = self.config(output, seed), decoding or Decoding()
        self.check_trained(model, task)
        positives = self.choices.positives(train)
        questions = Questions(train, *self.choices.choose(train, positives, seed), positives)
        if not len(questions):
            raise DataError(
                "no choice is left to learn from.", fix="Lower choices.min_history, or raise choices.share."
            )
        if self.tuning == "full":
            train_item_rows_only(model, task.items)
        trainer = PolicyTrainer(
            model=model,
            args=config,
            task=task,
            settings=self,
            questions=questions,
            rewards=_rewards_for_trl(self.rewards, questions, task, train, seed, config.num_generations),
            valid=valid.sample(self.valid_users, seed),
            decoding=decoding,
            exclude_seen=exclude_seen,
            callbacks=callbacks,
        )
        recommender, log = trainer.finished(trainer.train(resume_from_checkpoint=last_checkpoint(output)))
        return recommender, {"choices": len(questions), "stopped": trainer.watch.reason, **log}


class PolicyTrainer(RecommendingTrainer, GRPOTrainer):
    """`GRPOTrainer` whose rollouts are items, each group with one prompt."""

    settings: GRPO
    _buffered_inputs: list[dict[str, Tensor]] | None

    def __init__(
        self,
        model: PreTrainedModel,
        args: GRPOConfig,
        task: NextItemTask,
        settings: GRPO,
        questions: Questions,
        rewards: list[Any],
        valid: Examples,
        decoding: Decoding,
        exclude_seen: bool,
        callbacks: Sequence[TrainerCallback] = (),
    ) -> None:
        self.task, self.settings, self.valid = task, settings, valid
        self.decoding, self.exclude_seen = decoding, exclude_seen
        self.rollouts = Rollouts(
            questions, task, args.num_generations, settings.rollouts, args.temperature, exclude_seen
        )
        self.watch = KLWatch(settings.kl_limit, self._newest_kl)
        args.max_completion_length = task.items.levels
        entropy_counts = bool(args.entropy_coef) or args.use_adaptive_entropy
        add_completion_scores(model, task.items, settings.over, args.temperature, entropy_counts)
        numbers = Dataset.from_dict({"prompt": np.arange(len(questions))})
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="You are using 'rollout_func'")  # nothing a user could change
            super().__init__(
                model=model,
                reward_funcs=rewards,
                args=args,
                train_dataset=numbers,
                eval_dataset=numbers.select(range(1)),  # the Trainer wants one; `evaluate` never reads it
                processing_class=task.items.tokenizer,
                peft_config=settings.lora_config(model, task.items),
                callbacks=settings.callbacks([self.watch, *callbacks]),
                rollout_func=_rollouts,
            )
        self.set_right()
        self.aux_loss_enabled = False  # experts keep the balance that they have
        # Nothing of a prompt is kept: a fused optimizer changes weights without a trace that the engine could see.
        engine = TransformersEngine(self.bare_model, task.items)
        searching = decoding.model_copy(update={"beams": args.num_generations, "most_beams": 0})
        self.policy = LLMRecommender(None, task, searching, engine)

    def _get_train_sampler(self, dataset: Dataset | None = None) -> GroupSampler:
        return GroupSampler(
            data_source=self.train_dataset if dataset is None else dataset,
            mini_repeat_count=self.num_generations,
            batch_size=self.args.generation_batch_size // self.num_generations,
            repeat_count=self.num_iterations * self.args.steps_per_generation,
            shuffle=self.shuffle_dataset,
            seed=self.args.seed,
        )

    def _prepare_inputs(self, generation_batch: Any) -> Any:
        """As TRL's, but rollouts are not shuffled among the micro-batches: those of one group share a prompt."""
        steps = self.args.steps_per_generation
        if self._step % (steps * self.num_iterations) == 0 or self._buffered_inputs is None:
            self._buffered_inputs = split_tensor_dict(self._generate_and_score_completions(generation_batch), steps)
        return self._buffered_inputs[self._step % steps]

    def _get_per_token_logps_and_entropies(
        self,
        model: Any,
        input_ids: Tensor,
        attention_mask: Tensor,
        logits_to_keep: int,
        batch_size: int | None = None,
        compute_entropy: bool = False,
        **_: Any,
    ) -> tuple[Tensor, Tensor | None, None]:
        """TRL's figures of every token, `(B, C)` each: `B` rollouts, group by group, in one row a group.

        Args:
            input_ids, attention_mask: `int64[B, P + C]`; TRL pads prompts on the left and codes on the right.
            logits_to_keep: `C`. batch_size: rollouts at once, a multiple of the group.
        """
        log_probs, entropies = [], []
        size = batch_size or len(input_ids)
        for ids, mask in zip(input_ids.split(size), attention_mask.split(size), strict=True):
            batch = grouped(ids, mask, logits_to_keep, self.num_generations)
            with self.accelerator.autocast():
                scores = model(**{name: value.to(ids.device) for name, value in batch.items()})
            rest = (0, logits_to_keep - scores.log_probs.shape[-1])  # codes of these may be shorter than others
            log_probs.append(functional.pad(scores.log_probs.flatten(0, 1), rest))
            entropies.append(functional.pad(scores.entropy.flatten(0, 1), rest))
        return torch.cat(log_probs), torch.cat(entropies) if compute_entropy else None, None

    def _newest_kl(self) -> float | None:
        """The divergence of this step; None where there is no reference."""
        noted = self._metrics["train"].get("kl", [])[-self.current_gradient_accumulation_steps :]
        return float(np.mean(noted)) if noted else None

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Without TRL's figures of lengths and of texts that were cut off: a code has no end that could be missing."""
        for figures in self._metrics.values():
            for name in [name for name in figures if name.startswith("completions/")]:
                del figures[name]
        super().log(logs, start_time)


def _rollouts(prompts: list[int], trainer: PolicyTrainer) -> dict[str, Any]:
    """TRL's `rollout_func`, with the weights as they are now."""
    model_for_decoding(trainer.bare_model)
    with trainer.accelerator.autocast():
        return trainer.rollouts.of(prompts, trainer.policy)


def _rewards_for_trl(
    settings: list[dict[str, Any]], questions: Questions, task: NextItemTask, train: Interactions, seed: int, group: int
) -> list[Any]:
    """Each reward as a function of TRL, which logs them one by one and adds them up by their weights."""
    mixture = Mixture.of(settings)
    names = [
        name if mixture.names.count(name) == 1 else f"{name}_{number}" for number, name in enumerate(mixture.names, 1)
    ]
    return [
        reward_for_trl(name, part.fit(task, train, seed), questions, group)
        for name, part in zip(names, mixture.parts, strict=True)
    ]
