r"""Next-token loss over the level's own codebook.

Formula: for a position that predicts the level-$l$ token of code $c$,
$-\log \frac{\exp(h \cdot w_{l,c})}{\sum_{c'} \exp(h \cdot w_{l,c'})}$ with $c'$ over the codebook of level $l$ only;
where the head has a bias, it is added to each product.

It is the training side of `normalize: codebook`: what the engine divides by at a step is what the loss divided by. In
comparison with the usual cross-entropy over the vocabulary, words are neither scored nor pushed down at item positions
(the trie makes them impossible anyway), and the product with the head costs the level's hundreds of rows, not 50,000.
The papers TIGER and LC-Rec use the full vocabulary; `loss: vocab` in a recipe does as they do.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel

from llmrec.engines.head import finish_logits, head_bias
from llmrec.indexes.item_tokenizer import ItemTokenizer


def level_softmax_loss(
    model: PreTrainedModel,
    items: ItemTokenizer,
    rows: Tensor,
    hidden: Tensor,
    targets: Tensor,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Sum of the negative log-likelihoods.

    Args:
        model: for what it does to its logits and the bias of its head. items: the codebooks.
        rows: `(item tokens, D)` head rows, codebook by codebook. hidden: `(n, D)`, the states that predict.
        targets: `int64[n]`, item token ids. label_smoothing: share of the target spread over the codebook.

    Returns:
        A scalar in nats, summed over the `n` positions.
    """
    total = hidden.new_zeros((), dtype=torch.float32)
    places = items.places(hidden.device)[targets]
    bias, start = head_bias(model), 0
    for book, size in enumerate(map(len, items.codebooks)):
        at_level = (places >= start) & (places < start + size)
        if bool(at_level.any()):
            of_book = None if bias is None else bias[items.rows_of(book)]
            logits = functional.linear(hidden[at_level], rows[start : start + size].to(hidden.dtype), of_book)
            total = total + functional.cross_entropy(
                finish_logits(model, logits.float()),
                places[at_level] - start,
                reduction="sum",
                label_smoothing=label_smoothing,
            )
        start += size
    return total
