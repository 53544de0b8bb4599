"""Dropout for models that were pretrained without it.

Modern base models carry no dropout: they saw every text once. A recommender's table is small and seen for many epochs,
so overfitting is what limits it. These hooks drop on the embeddings and on what each attention and feed-forward block
adds, the places of the original Transformer (Vaswani et al., 2017). They act in training mode only and are removed
before the model is saved.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn
from torch.nn import functional
from transformers import PreTrainedModel

from llmrec.errors import RecipeError


@contextmanager
def dropout(model: PreTrainedModel, share: float) -> Iterator[None]:
    """Drop a share of the activations inside the `with` block.

    Args:
        model: a decoder-only model. share: in [0, 1); nothing is done for 0.

    Raises:
        RecipeError: the model's layers have no `self_attn` and `mlp`.
    """
    places: list[nn.Module] = []
    if share:
        places.append(model.get_input_embeddings())
        for layer in model.get_decoder().layers:
            if not (hasattr(layer, "self_attn") and hasattr(layer, "mlp")):
                raise RecipeError(f"train.dropout: layers of {type(model).__name__} lack self_attn or mlp. Set 0.")
            places += [layer.self_attn, layer.mlp]

    def drop(module: nn.Module, inputs: Any, output: Any) -> Any:
        if not module.training:
            return output
        if isinstance(output, tuple):
            return (functional.dropout(output[0], share), *output[1:])
        return functional.dropout(output, share)

    handles = [module.register_forward_hook(drop) for module in places]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
