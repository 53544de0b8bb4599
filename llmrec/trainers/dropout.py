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
def dropout(model: PreTrainedModel, embedding: float, residual: float) -> Iterator[None]:
    """Drop activations inside the `with` block.

    Args:
        model: a decoder-only model. embedding: share dropped of the token embeddings.
        residual: share dropped of each block's contribution.

    Raises:
        RecipeError: the model's layers have no `self_attn` and `mlp`.
    """
    places: list[tuple[nn.Module, float]] = []
    if embedding:
        places.append((model.get_input_embeddings(), embedding))
    if residual:
        for layer in model.get_decoder().layers:
            if not (hasattr(layer, "self_attn") and hasattr(layer, "mlp")):
                raise RecipeError(
                    f"train.residual_dropout: layers of {type(model).__name__} have no 'self_attn' and 'mlp'. Set it to 0."
                )
            places += [(layer.self_attn, residual), (layer.mlp, residual)]
    handles = [module.register_forward_hook(_hook(share)) for module, share in places]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _hook(share: float) -> Any:
    def drop(module: nn.Module, inputs: Any, output: Any) -> Any:
        if not module.training:
            return output
        if isinstance(output, tuple):
            return (functional.dropout(output[0], share), *output[1:])
        return functional.dropout(output, share)

    return drop
