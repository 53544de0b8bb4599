"""What trainers do differently when several processes train one model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from accelerate.utils import gather_object
from torch import nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor
from transformers import AutoModelForCausalLM, PreTrainedModel

from llmrec.data.split import Examples


def share(accelerator: Any, examples: Examples) -> Examples:
    """The examples that this process asks about; all of them where there are fewer than processes."""
    count = accelerator.num_processes
    return (
        examples if len(examples) < count else examples.take(np.arange(accelerator.process_index, len(examples), count))
    )


def mean_over(accelerator: Any, metrics: Mapping[str, float], examples: int) -> dict[str, float]:
    """Means over all examples, the same on every process, from those over each process's own.

    Args:
        metrics: of this process. examples: how many they are a mean of.
    """
    if accelerator.num_processes == 1:
        return dict(metrics)
    found = gather_object([(dict(metrics), examples)])
    total = sum(count for _, count in found)
    return {name: sum(each[name] * count for each, count in found) / total for name in metrics}


@contextmanager
def whole(model: nn.Module) -> Iterator[None]:
    """All weights on every process, where FSDP2 divides them: a search does not run in step with other processes."""
    parts = [module for module in model.modules() if isinstance(module, FSDPModule)]
    for part in parts:
        part.set_reshard_after_forward(False)
        part.unshard()
    try:
        yield
    finally:
        for part in parts:
            part.reshard()
            part.set_reshard_after_forward(True)


@torch.no_grad()
def gathered(model: PreTrainedModel) -> PreTrainedModel:
    """An ordinary model with the weights that FSDP2 divides, on every process, with the item rows in their places.

    Every process has to call it.
    """
    state = {
        name: (value.full_tensor() if isinstance(value, DTensor) else value).cpu()
        for name, value in model.state_dict().items()
    }
    rows = next((name for name in state if name.endswith(".item_rows")), None)
    if rows is not None:
        words, places = f"{rows.removesuffix('item_rows')}weight", model.get_input_embeddings().ids.cpu()
        state[words] = state[words].index_copy(0, places, state.pop(rows).to(state[words].dtype))
    plain: PreTrainedModel = AutoModelForCausalLM.from_config(model.config, dtype=next(iter(state.values())).dtype)
    named = dict(plain.named_parameters())  # a tied head is not among them
    plain.load_state_dict({name: state[name] for name in named}, strict=False)
    plain.tie_weights()
    return plain.to(next(model.parameters()).device)


def is_divided(model: nn.Module) -> bool:
    """Whether FSDP2 divides its weights among the processes."""
    return any(isinstance(module, FSDPModule) for module in model.modules())
