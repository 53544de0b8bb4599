"""The embedded engine: constrained decoding in plain PyTorch + transformers, on CPU or GPU.

The prompts of a batch are prefilled once. At each step all beams of a user are fed as query positions of that one
sequence; a tree mask lets a beam see the prompt and its own ancestors only. Prompt keys and values are never copied or
reordered per beam, which is what makes ordinary beam search pay for the prompt once a beam.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel

from llmrec.engines.base import Normalize
from llmrec.engines.beam import Ranking
from llmrec.engines.bias import ItemBias
from llmrec.engines.head import LevelHead
from llmrec.engines.mask import AllowedItems
from llmrec.engines.normalize import log_probabilities
from llmrec.engines.prefill import Prefill, prefill
from llmrec.engines.prompt_cache import PromptCache
from llmrec.engines.support import check_length, check_model
from llmrec.engines.token_trie import EdgeTokens
from llmrec.engines.top_k import check_prompts, check_request, top_k
from llmrec.engines.tree_attention import added, tree_attention
from llmrec.indexes.item_tokenizer import ItemTokenizer
from llmrec.types import Ragged, Rows, ScoredItems

LOGITS_AT_ONCE = 2**25
"""Logits (128 MB of float32) that are computed at once; a title's vocabulary has thousands of rows."""


class TransformersEngine:
    """Decode items with a causal language model of transformers.

    Args:
        model: the model, in the dtype and on the device to decode with.
        item_tokenizer: its item tokens and trie.
        shared_prompt: token ids that prompts begin with, computed once; see `PromptCache`.
        cached_tokens: tokens of whole prompts that are kept for users who come back.

    Raises:
        DecodingError: the model cannot be decoded so; see `llmrec.engines.support`.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        item_tokenizer: ItemTokenizer,
        shared_prompt: Sequence[int] = (),
        cached_tokens: int = 0,
    ) -> None:
        check_model(model)
        self.model = model
        self.item_tokenizer = item_tokenizer
        self.tokens = EdgeTokens.of(item_tokenizer, model.device)
        self.trie = self.tokens.trie
        self.prompts = PromptCache(model, shared_prompt, cached_tokens)

    def allow(self, rows: Rows) -> AllowedItems:
        """Candidates for many requests, made once."""
        return AllowedItems.of(self.trie, rows)

    def decode(
        self,
        prompts: Sequence[Sequence[int]],
        k: int,
        beams: int,
        normalize: Normalize = "codebook",
        excluded: Ragged | None = None,
        candidates: Rows | Ragged | AllowedItems | None = None,
        length_penalty: float = 0.0,
        bias: ItemBias | None = None,
        most_beams: int = 0,
    ) -> ScoredItems:
        """See `Engine.decode`."""
        check_request(prompts, k, beams, excluded, candidates)
        with self._asked(prompts):
            done = prefill(self.model, prompts, self.prompts)
            those: NDArray[np.int64] | None = None  # whose prompts `done` holds, after the first search

            def stepper_of(users: NDArray[np.int64]) -> TreeStepper:
                nonlocal done, those
                if those is not None:
                    done = done.of_users(torch.from_numpy(np.searchsorted(those, users)).to(self.model.device))
                those = users
                return TreeStepper(self.model, self.item_tokenizer, self.tokens, done, normalize)

            return top_k(
                self.trie, self.item_tokenizer.index.codes, stepper_of, len(prompts), k, beams,
                Ranking(normalize, length_penalty), excluded, candidates, bias, most_beams,
            )  # fmt: skip

    @contextmanager
    def stepper(self, prompts: Sequence[Sequence[int]], normalize: Normalize = "codebook") -> Iterator[TreeStepper]:
        """See `Engine.stepper`."""
        check_prompts(prompts)
        with self._asked(prompts):
            done = prefill(self.model, prompts, self.prompts)
            yield TreeStepper(self.model, self.item_tokenizer, self.tokens, done, normalize)

    @contextmanager
    def _asked(self, prompts: Sequence[Sequence[int]]) -> Iterator[None]:
        """The model as it must be while it is asked about prompts of an allowed length."""
        check_length(self.model, max(map(len, prompts), default=0), self.item_tokenizer.levels)
        was_training = self.model.training
        self.model.eval()
        try:
            with torch.inference_mode():
                yield
        finally:
            self.model.train(was_training)


class TreeStepper:
    """See `Stepper`: one key-value cache a user, grown by all nodes that are fed at once."""

    def __init__(
        self,
        model: PreTrainedModel,
        item_tokenizer: ItemTokenizer,
        tokens: EdgeTokens,
        done: Prefill,
        normalize: Normalize,
    ) -> None:
        self.tokens, self.trie, self.items = tokens, tokens.trie, item_tokenizer
        self.normalize, self.prompt = normalize, done
        self.decoder = model.get_decoder()
        self.head = LevelHead(model)
        none = torch.empty(len(done.lengths), 0, dtype=torch.int64, device=model.device)
        # Of the nodes in the cache, `int64[B, fed]` each: the items below them (none below padding), and their depths.
        self.first_item, self.end_item, self.depth = none, none, none

    def first(self, children: Tensor, real: Tensor) -> Tensor:
        """See `Stepper.first`."""
        last = self.prompt.last[:, None]
        fed = torch.ones(last.shape[:2], dtype=torch.bool, device=last.device)
        return self._log_p(last, torch.zeros_like(fed, dtype=torch.int64), fed, children, real)

    def extend(self, nodes: Tensor, fed: Tensor, children: Tensor, real: Tensor) -> Tensor:
        """See `Stepper.extend`."""
        depths = self.trie.depths(nodes)  # (B, T)
        with tree_attention(self.decoder):
            hidden = self.decoder(
                input_ids=self.tokens.tokens_into(nodes),  # any on padding, which nobody sees
                attention_mask=added(self._tree_mask(nodes, depths, fed), self.decoder.dtype),
                position_ids=self.prompt.lengths[:, None] + depths - 1,
                past_key_values=self.prompt.cache,
                use_cache=True,
            ).last_hidden_state  # (B, T, D)
        return self._log_p(hidden, depths, fed, children, real)

    def _tree_mask(self, nodes: Tensor, depths: Tensor, fed: Tensor) -> Tensor:
        """`bool[B, 1, T, P + fed]`: a node sees its user's prompt, its ancestors and itself."""
        first, end = self.trie.item_range(nodes)
        self.first_item = torch.cat([self.first_item, first], 1)
        self.end_item = torch.cat([self.end_item, torch.where(fed, end, -1)], 1)
        self.depth = torch.cat([self.depth, depths], 1)
        own = first[:, :, None]
        above = (self.first_item[:, None] <= own) & (own < self.end_item[:, None])
        above &= self.depth[:, None] <= depths[:, :, None]
        prompt = self.prompt.is_prompt[:, None].expand(-1, nodes.shape[1], -1)
        return torch.cat([prompt, above], dim=-1)[:, None]

    def _log_p(self, hidden: Tensor, levels: Tensor, fed: Tensor, children: Tensor, real: Tensor) -> Tensor:
        """`float32[B, T, C]`; each position meets the rows of the level that follows it."""
        found = torch.full(children.shape, -torch.inf, device=hidden.device)
        books = self.tokens.book_of_level[levels]  # (B, T); no leaf is fed, so a level follows
        for book in range(len(self.items.codebooks)):
            at = fed & (books == book)
            if not bool(at.any()):
                continue
            states, rows = hidden[at], self.head.rows(self.items.rows_of(book))
            codes, is_child = self.trie.scored_as(children[at]), real[at]
            size = max(1, LOGITS_AT_ONCE // (len(self.head.weight) if self.normalize == "vocab" else len(rows[0])))
            parts = [
                log_probabilities(
                    self.head.logits(part, rows),
                    codes_part,
                    child_part,
                    self.normalize,
                    self.head.log_normalizer(part) if self.normalize == "vocab" else None,
                )
                for part, codes_part, child_part in zip(
                    states.split(size), codes.split(size), is_child.split(size), strict=True
                )
            ]
            found[at] = torch.cat(parts)
        return found
