"""The same CPU seconds for every training, whatever it does with them; no benchmark by itself.

The clock is that of the process, so other work on the machine shortens nobody's training. It counts all that a training
needs: rendering, negatives, a reference, its steps. It leaves out what only the choice of the best moment needs:
validation and its checkpoints.
"""

from __future__ import annotations

import time
from typing import Any, ClassVar

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments


class CpuBudget(TrainerCallback):
    """Ends a training when its time is over, validates on the way, and lets the learning rate fall to zero in a line.

    The trainer's `args` must hold `ARGS`, or `ARGS_OF_ROUNDS`, so that it has no schedule of its own.

    Args:
        seconds: of CPU time, from now on. validations: so many, evenly spread, the last at the end.
        warmup: share of the steps' time in which the learning rate rises.
    """

    ARGS: ClassVar[dict[str, Any]] = {
        "max_steps": 10**7,
        "lr_scheduler_type": "constant",
        "eval_strategy": "steps",
        "eval_steps": 10**7,
    }

    ARGS_OF_ROUNDS: ClassVar[dict[str, Any]] = {
        "num_train_epochs": 1,
        "lr_scheduler_type": "constant",
        "eval_strategy": "epoch",
    }
    """For a training in rounds, which validates at the end of each and begins anew; its `validations` do not count."""

    def __init__(self, seconds: float, validations: int, warmup: float = 0.05) -> None:
        self.seconds, self.validations, self.warmup = seconds, validations, warmup
        self.began, self.paused, self.steps, self.validated = time.process_time(), 0.0, 0, 0
        self.first: float | None = None
        self.paused_at: float | None = None
        self.rates: list[float] = []

    @property
    def spent(self) -> float:
        """CPU seconds so far, without validation."""
        now = time.process_time() if self.paused_at is None else self.paused_at
        return now - self.began - self.paused

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, optimizer: Any = None, **_: Any
    ) -> None:
        """Remember the learning rates."""
        self.rates = [group["lr"] for group in optimizer.param_groups]
        self.first = self.spent if self.first is None else self.first

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, optimizer: Any = None, **_: Any
    ) -> None:
        """Set the learning rates of this moment."""
        if self.paused_at is not None:
            self.paused += time.process_time() - self.paused_at
            self.paused_at = None
        first = self.first or 0.0
        done = (self.spent - first) / max(self.seconds - first, 1e-9)
        share = min(1.0, (done + 0.005) / self.warmup) * max(0.0, 1 - done)
        for group, rate in zip(optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * share

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        """Validate where it is time for it, and stop at the end."""
        self.steps += 1
        first, spent = self.first or 0.0, self.spent
        is_over = spent >= self.seconds
        if str(args.eval_strategy.value) == "epoch":
            control.should_training_stop |= is_over
            return control
        due = self.validations if is_over else int(self.validations * (spent - first) / (self.seconds - first))
        if due > self.validated:
            control.should_evaluate = control.should_save = True
            self.validated, self.paused_at = due, time.process_time()
        control.should_training_stop |= is_over
        return control

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        """The end of a round: its validation is not counted."""
        if control.should_evaluate and self.paused_at is None:
            self.paused_at = time.process_time()
        return control

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """What a further round does before its first step is counted again."""
        if self.paused_at is not None and self.spent < self.seconds:
            self.paused += time.process_time() - self.paused_at
            self.paused_at = None
