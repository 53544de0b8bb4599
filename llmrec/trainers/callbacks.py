"""What a person sees while a model trains: one bar on stderr, with the remaining time, the loss and the last NDCG."""

from __future__ import annotations

from typing import Any

from tqdm.auto import tqdm
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

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
