"""What goes on beside a training: one bar on stderr, and a watch on how far a policy has gone from its reference."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Any

import torch
from tqdm.auto import tqdm
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

logger = logging.getLogger(__name__)

SHOWN = {"loss": "loss", "eval_ndcg@10": "valid ndcg@10"}


class ProgressBar(TrainerCallback):
    """In place of the Trainer's own, which prints its logs on stdout, where results belong."""

    def __init__(self) -> None:
        self.bar: Any = None
        self.last: dict[str, str] = {}

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Open the bar; a resumed run begins where it was."""
        self.bar = tqdm(
            total=state.max_steps,
            initial=state.global_step,
            desc="train",
            unit="step",
            disable=args.disable_tqdm or not state.is_world_process_zero,
        )

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Move on."""
        self.bar.update(state.global_step - self.bar.n)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        """Show the newest figures behind the bar."""
        self.last |= {shown: f"{float(logs[name]):.4f}" for name, shown in SHOWN.items() if logs and name in logs}
        if self.bar is not None:
            self.bar.set_postfix(self.last, refresh=False)

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Close the bar."""
        self.bar.close()


class EndedByOthers(TrainerCallback):
    """Notes that a callback before it ended a training early; what was to follow that training shall not."""

    def __init__(self) -> None:
        self.yes = False

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """The last step of a schedule ends a training too, and is no early end."""
        self.yes |= control.should_training_stop and state.global_step < state.max_steps


class KLWatch(TrainerCallback):
    """Stops a training whose policy has left its reference; the model of the best evaluation is kept as always.

    A step whose divergence is not finite is not taken: its gradients would leave no weight that is a number. TRL's log
    leaves such numbers out of its means, so they would not be seen there.

    Args:
        limit: the highest divergence, in nats a token; none when None.
        newest: gives that of the step at hand, None where there is no reference.
    """

    def __init__(self, limit: float | None, newest: Callable[[], float | None]) -> None:
        self.limit, self.newest = limit, newest
        self.reason: str | None = None

    def on_pre_optimizer_step(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: torch.nn.Module | None = None,
        **_: Any,
    ) -> None:
        """Judge the step that is about to be taken."""
        kl = self.newest()
        if kl is None or (math.isfinite(kl) and (self.limit is None or kl <= self.limit)):
            return
        bound = "" if self.limit is None else f" of at most {self.limit:g}"
        self.reason = f"step {state.global_step + 1}: the divergence from the reference is {kl:g} nats a token{bound}"
        if not math.isfinite(kl) and model is not None:
            model.zero_grad(set_to_none=True)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Stop, and evaluate what there is."""
        if self.reason is not None and not control.should_training_stop:
            logger.warning("Training stops. %s. Raise args.beta or lower args.learning_rate.", self.reason)
            control.should_training_stop = True
            control.should_evaluate = control.should_save = args.eval_strategy != "no"
