"""What a student is asked in a distillation: the weighted sum of the losses under `llmrec/trainers/losses/`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from llmrec.component import Component
from llmrec.engines.head import finish_logits, head_bias
from llmrec.errors import RecipeError
from llmrec.indexes.item_tokenizer import ItemTokenizer
from llmrec.indexes.trie import Trie
from llmrec.trainers.item_rows import item_head_rows
from llmrec.trainers.losses.block_features import block_feature_loss
from llmrec.trainers.losses.multi_level import multi_level_loss
from llmrec.trainers.losses.ranking import ranking_loss
from llmrec.trainers.losses.trie_kl import trie_kl_loss
from llmrec.trainers.teacher import Teacher

NAMES = ("labels", "trie_kl", "block_features", "multi_level", "ranking")

PROJECTIONS = "distillation_projections"
"""The attribute of a student that holds matrices to the teacher's width while it trains."""


class Losses(Component):
    """Weights of the losses, and what shapes them; a weight of 0 leaves a loss out.

    Args:
        labels: the item that came next, as in fine-tuning (`level_softmax`).
        trie_kl: the teacher's choice at each node. over: among the node's `children`, or all codes of the `codebook`.
        temperature: of `trie_kl`.
        block_features: the teacher's states behind each block. norm_weight: of their norms.
        multi_level: the item that came next, told from every block.
        ranking: the teacher's own lists; a list counts as a trained token.
    """

    labels: float = Field(0.5, ge=0)
    trie_kl: float = Field(1.0, ge=0)
    over: Literal["children", "codebook"] = "codebook"
    temperature: float = Field(1.0, gt=0)
    block_features: float = Field(0.0, ge=0)
    norm_weight: float = Field(0.1, ge=0)
    multi_level: float = Field(0.0, ge=0)
    ranking: float = Field(0.0, ge=0)

    @model_validator(mode="after")
    def _something_is_learned(self) -> Self:
        if not self.wanted:
            raise ValueError(f"all weights are 0, so nothing would be learned; give one of {', '.join(NAMES)} a weight")
        return self

    @property
    def wanted(self) -> list[str]:
        """The losses that have a weight."""
        return [name for name in NAMES if getattr(self, name)]

    @property
    def need_states(self) -> bool:
        """Whether the teacher's states are wanted."""
        return bool(self.trie_kl or self.block_features)

    @property
    def need_blocks(self) -> bool:
        """Whether states in the middle matter."""
        return bool(self.block_features or self.multi_level)


@dataclass(frozen=True)
class Objective:
    """The losses of a batch's trained tokens.

    Args:
        losses: weights. items: the student's tokens. trie: the codes, on the student's device. teacher: None where
            nothing is asked of it. norm: from states in the middle to what the head takes.
        list_temperature: of the scores in the teacher's lists.
        dropout: share of the last states dropped. label_smoothing: share of a label that is spread over its codebook.
    """

    losses: Losses
    items: ItemTokenizer
    trie: Trie
    teacher: Teacher | None
    norm: Callable[[Tensor], Tensor] | None
    list_temperature: float
    dropout: float
    label_smoothing: float

    def __call__(
        self, model: PreTrainedModel, states: Tensor, targets: Tensor, nodes: Tensor, taught: Tensor | None
    ) -> Tensor:
        """Each loss, unweighted, summed over the `n` trained tokens; `float32[losses]` in the order of `names`.

        Args:
            model: the student. states: `(n, B, D)` behind its blocks. targets: `int64[n]`, token ids.
            nodes: `int64[n]`, whose children the targets are. taught: `(n, B, D')`, the teacher's states.
        """
        sums = {name: states.new_zeros((), dtype=torch.float32) for name in self.names}
        last = functional.dropout(states[:, -1], self.dropout, model.training)
        rows, places = item_head_rows(model, self.items), self.items.places(states.device)[targets]
        offsets = head_bias(model)
        books = torch.from_numpy(self.items.book_of_level).to(states.device)[self.trie.depths(nodes)]
        for book, start in enumerate(self.items.book_starts.tolist()):
            at = torch.nonzero(books == book).squeeze(1)
            if not len(at):
                continue
            of_book, codes = rows[start : start + len(self.items.codebooks[book])], places[at] - start
            bias = None if offsets is None else offsets[self.items.rows_of(book)]

            def logits_of(vectors: Tensor, weight: Tensor = of_book, bias: Tensor | None = bias) -> Tensor:
                return finish_logits(model, functional.linear(vectors, weight.to(vectors.dtype), bias).float())

            found = logits_of(last[at])
            if "labels" in sums:
                smoothing = self.label_smoothing
                sums["labels"] += functional.cross_entropy(found, codes, reduction="sum", label_smoothing=smoothing)
            if "multi_level" in sums:
                assert self.norm is not None
                middle = logits_of(self.norm(states[at, :-1].transpose(0, 1)))  # (B - 1, n, V)
                sums["multi_level"] += multi_level_loss(middle, codes).sum()
            if "trie_kl" in sums:
                assert self.teacher is not None
                assert taught is not None
                theirs, real = self.teacher.logits(taught[at, -1], book), self._real(nodes[at], found)
                sums["trie_kl"] += trie_kl_loss(found, theirs, real, self.losses.temperature).sum()
        if "block_features" in sums:
            assert taught is not None
            own = states if (matrices := getattr(model, PROJECTIONS, None)) is None else matrices(states)
            sums["block_features"] += block_feature_loss(own.float(), taught.float(), self.losses.norm_weight).sum()
        return torch.stack(list(sums.values()))

    def of_lists(self, scores: Tensor, teacher: Tensor, is_real: Tensor) -> Tensor:
        """What is added to the sums for lists; the same order.

        Args:
            scores: `(P, K)`, the student's of each item. teacher: `(P, K)`. is_real: `bool[P, K]`.
        """
        found = ranking_loss(scores, teacher, is_real, self.list_temperature).sum()
        return torch.stack([found if name == "ranking" else torch.zeros_like(found) for name in self.names])

    def _real(self, nodes: Tensor, logits: Tensor) -> Tensor:
        """`bool[n, V]`: the codes that are compared."""
        if self.losses.over == "codebook":
            return torch.ones_like(logits, dtype=torch.bool)
        children, valid = self.trie.children(nodes)
        found = torch.zeros_like(logits, dtype=torch.bool)
        found[torch.nonzero(valid)[:, 0], self.trie.code[children[valid]].long()] = True
        return found

    @property
    def names(self) -> list[str]:
        """The losses that have a weight."""
        return self.losses.wanted

    def weighted(self, sums: Tensor) -> Tensor:
        """What is minimised, of the sums in the order of `names`."""
        return (sums * sums.new_tensor([getattr(self.losses, name) for name in self.names])).sum()


class Projections(nn.Module):
    """A matrix a block, from the student's width to the teacher's."""

    def __init__(self, blocks: int, width: int, teacher_width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(blocks, width, teacher_width) / width**0.5)

    def forward(self, states: Tensor) -> Tensor:
        """`(n, B, D')` of `(n, B, D)`."""
        return torch.einsum("nbd,bde->nbe", states, self.weight.to(states.dtype))


def final_norm(model: PreTrainedModel) -> nn.Module:
    """The norm between the last layer and the head.

    Raises:
        RecipeError: it has none of the usual names.
    """
    decoder = model.get_decoder()
    for name in ("norm", "ln_f", "final_layernorm", "final_layer_norm"):
        if isinstance(found := getattr(decoder, name, None), nn.Module):
            return found
    raise RecipeError(f"losses.multi_level: {type(decoder).__name__} has no final norm of a known name. Set it to 0.")


def block_ends(layers: int, blocks: int) -> Sequence[int]:
    """After which layers, from 1, a model is cut into so many blocks of about equal size."""
    return [round(layers * (block + 1) / blocks) for block in range(blocks)]
