"""What a request to vLLM may say about items: its arguments in `SamplingParams.extra_args` (`vllm_xargs` over HTTP).

    item_candidates   the only items allowed: rows of the catalog, or item ids
    item_excluded     items that must not come
    item_prefix       so many tokens at the end of the prompt already belong to the item's code; 0
    item_scores       codebook | children | vocab: instead of logits, give the log-probability of every next token

A request without any of them is constrained all the same: to the whole catalog, from the beginning of a code.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor

from llmrec.engines.base import Normalize
from llmrec.engines.mask import NodeMask, is_among
from llmrec.errors import did_you_mean
from llmrec.indexes.item_tokenizer import ItemTokenizer
from llmrec.types import Ragged, Rows

ARGUMENTS = ("item_candidates", "item_excluded", "item_prefix", "item_scores")


@dataclass(frozen=True)
class ItemRequest:
    """The arguments of one request, as they came: items are rows (int) or ids (str)."""

    candidates: Sequence[int | str] | None = None
    excluded: Sequence[int | str] = ()
    prefix: int = 0
    scores: Normalize | None = None

    @classmethod
    def of(cls, extra_args: Mapping[str, Any] | None) -> ItemRequest:
        """Read the arguments that are ours.

        Raises:
            ValueError: one is not known or cannot be used; this is the error that vLLM answers with status 400.
        """
        given = {name: value for name, value in (extra_args or {}).items() if name.startswith("item_")}
        for name in given:
            if name not in ARGUMENTS:
                raise ValueError(f"there is no argument {name!r}. {did_you_mean(name, ARGUMENTS)}")
        prefix, scores = given.get("item_prefix", 0), given.get("item_scores")
        if not isinstance(prefix, int) or isinstance(prefix, bool) or prefix < 0:
            raise ValueError(f"item_prefix is {prefix!r}; give the number of tokens, 0 or more.")
        if scores is not None and scores not in get_args(Normalize):
            raise ValueError(f"item_scores is {scores!r}; allowed are {', '.join(get_args(Normalize))}.")
        candidates = _items("item_candidates", given.get("item_candidates"))
        return cls(candidates, _items("item_excluded", given.get("item_excluded")) or (), prefix, scores)


def validate(params: Any) -> None:
    """Check a `SamplingParams` before it is accepted.

    Raises:
        ValueError: an argument cannot be used, or does not go with another.
    """
    request = ItemRequest.of(params.extra_args)
    if params.structured_outputs is not None:
        raise ValueError(
            "this model answers with items of its catalog only; a grammar or JSON schema cannot be met. Leave "
            "structured_outputs (response_format) out."
        )
    if request.scores is None:
        return
    if params.temperature or params.max_tokens != 1:
        raise ValueError("item_scores asks for the scores of one step: set temperature=0 and max_tokens=1.")
    if request.candidates is not None or request.excluded:
        raise ValueError(
            "item_scores gives the scores of all next tokens; leave item_candidates and item_excluded out."
        )


def _items(name: str, value: Any) -> Sequence[int | str] | None:
    if value is None:
        return None
    kinds = {type(item) for item in value} if isinstance(value, list | tuple) else {None}
    if not kinds <= {int} and not kinds <= {str}:
        raise ValueError(f"{name} must be a list of item rows (whole numbers) or a list of item ids (strings).")
    if kinds == {int} and min(value) < 0:
        raise ValueError(f"{name} holds the row {min(value)}; rows are counted from 0.")
    return value


@dataclass(frozen=True)
class Reach:
    """The part of the trie that one request may enter.

    Args:
        nodes: `int64[n]`, sorted. are_open: whether these are the only nodes that are open, or the only closed ones.
    """

    nodes: Tensor
    are_open: bool

    @classmethod
    def of(cls, items: ItemTokenizer, request: ItemRequest, rows_of: Callable[[Sequence[str]], Rows]) -> Reach | None:
        """None where everything is open. An item that is not in the catalog neither opens nor closes anything.

        Args:
            rows_of: item ids to rows, -1 for unknown ones.
        """
        excluded, candidates = (
            None if given is None else Ragged.from_lists([_known(given, len(items.index), rows_of)])
            for given in (request.excluded, request.candidates)
        )
        gate = NodeMask.of(items.trie, items.index.codes, excluded, candidates).nodes
        return cls(gate.keys, gate.are_open) if gate.are_open or len(gate.keys) else None


def _known(items: Sequence[int | str], count: int, rows_of: Callable[[Sequence[str]], Rows]) -> Rows:
    """`int32[n]`, sorted and unique rows of those items that the catalog has."""
    strings = [item for item in items if isinstance(item, str)]
    rows = rows_of(strings) if strings else np.array([item for item in items if int(item) < count], np.int32)
    return np.unique(rows[rows >= 0]).astype(np.int32)


@dataclass(frozen=True)
class Reaches:
    """The reaches of a batch, by slot (a place that holds one request).

    Args:
        keys: `int64[n]`, sorted `slot * M + node`. kinds: `int8[slots]`: 0 all is open, 1 the keys are closed nodes,
            2 they are the only open ones. size: `M`.
    """

    keys: Tensor
    kinds: Tensor
    size: int

    @classmethod
    def of(cls, reaches: Sequence[Reach | None], size: int, device: torch.device) -> Reaches | None:
        """None where no request has one. Costs a copy of all keys, so call it when the batch has changed only."""
        given = [(slot, reach) for slot, reach in enumerate(reaches) if reach is not None]
        if not given:
            return None
        kinds = torch.zeros(len(reaches), dtype=torch.int8)
        kinds[[slot for slot, _ in given]] = torch.tensor([1 + reach.are_open for _, reach in given], dtype=torch.int8)
        keys = torch.cat([slot * size + reach.nodes for slot, reach in given])
        return cls(keys.to(device), kinds.to(device), size)

    def open_nodes(self, slots: Tensor, nodes: Tensor) -> Tensor:
        """`bool[B, C]`: whether the requests in slots `int64[B]` may enter nodes `int64[B, C]`."""
        kinds = self.kinds[slots][:, None]
        found = is_among(self.keys, slots[:, None] * self.size + nodes)
        return (kinds == 0) | (found == (kinds == 2))
