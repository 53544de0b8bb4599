"""The steppers of the embedded engine: a user's beams are positions of one sequence, and a tree mask tells them apart.

What a position sees besides the prompt is what stands before it in its own item (`TreeStepper`, which asks the trie),
or in its own list of items (`ListTreeStepper`, which remembers what each position was fed behind).
"""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import PreTrainedModel

from llmrec.engines.base import Normalize
from llmrec.engines.head import LevelHead
from llmrec.engines.normalize import log_probabilities
from llmrec.engines.prefill import Prefill
from llmrec.engines.token_trie import EdgeTokens
from llmrec.engines.tree_attention import added, tree_attention
from llmrec.indexes.item_tokenizer import ItemTokenizer

LOGITS_AT_ONCE = 2**25
"""Logits (128 MB of float32) that are computed at once; a title's vocabulary has thousands of rows."""


class PromptedModel:
    """A model that has read the prompts of a batch; one key-value cache a user, which grows by all that is fed."""

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

    def first(self, children: Tensor, real: Tensor) -> Tensor:
        """See `Stepper.first`."""
        last = self.prompt.last[:, None]
        fed = torch.ones(last.shape[:2], dtype=torch.bool, device=last.device)
        return self.log_p(last, torch.zeros_like(fed, dtype=torch.int64), fed, children, real)

    def read(self, nodes: Tensor, depths: Tensor, sees: Tensor) -> Tensor:
        """Hidden states `(B, T, D)` of more positions.

        Args:
            nodes: `int64[B, T]`, any on padding, which nobody sees. depths: `int64[B, T]`, tokens behind the prompt,
                its own included. sees: `bool[B, T, fed]`, which of all that was fed, these nodes included, each sees.
        """
        prompt = self.prompt.is_prompt[:, None].expand(-1, nodes.shape[1], -1)
        with tree_attention(self.decoder):
            hidden: Tensor = self.decoder(
                input_ids=self.tokens.tokens_into(nodes),
                attention_mask=added(torch.cat([prompt, sees], dim=-1)[:, None], self.decoder.dtype),
                position_ids=self.prompt.lengths[:, None] + depths - 1,
                past_key_values=self.prompt.cache,
                use_cache=True,
            ).last_hidden_state
        return hidden

    def log_p(self, hidden: Tensor, levels: Tensor, fed: Tensor, children: Tensor, real: Tensor) -> Tensor:
        """`float32[B, T, C]`; each position meets the rows of the level that follows it."""
        found = torch.full(children.shape, -torch.inf, device=hidden.device)
        books = self.tokens.book_of_level[levels]  # (B, T)
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


class TreeStepper:
    """See `Stepper`."""

    def __init__(self, model: PromptedModel) -> None:
        self.model, self.first = model, model.first
        none = torch.empty_like(model.prompt.is_prompt[:, :0], dtype=torch.int64)
        # Of the nodes in the cache, `int64[B, fed]` each: the items below them (none below padding), and their depths.
        self.first_item, self.end_item, self.depth = none, none, none

    def extend(self, nodes: Tensor, fed: Tensor, children: Tensor, real: Tensor) -> Tensor:
        """See `Stepper.extend`."""
        depths = self.model.trie.depths(nodes)  # (B, T); no leaf is fed, so a level follows
        hidden = self.model.read(nodes, depths, self._ancestors(nodes, depths, fed))
        return self.model.log_p(hidden, depths, fed, children, real)

    def _ancestors(self, nodes: Tensor, depths: Tensor, fed: Tensor) -> Tensor:
        """`bool[B, T, fed]`: a node sees its ancestors and itself."""
        first, end = self.model.trie.item_range(nodes)
        self.first_item = torch.cat([self.first_item, first], 1)
        self.end_item = torch.cat([self.end_item, torch.where(fed, end, -1)], 1)
        self.depth = torch.cat([self.depth, depths], 1)
        own = first[:, :, None]
        above = (self.first_item[:, None] <= own) & (own < self.end_item[:, None])
        return above & (self.depth[:, None] <= depths[:, :, None])


class ListTreeStepper:
    """See `ListStepper`; of each position it keeps two numbers, what it stands behind and how far from the prompt."""

    def __init__(self, model: PromptedModel) -> None:
        self.model, self.first = model, model.first
        none = torch.empty_like(model.prompt.is_prompt[:, :0], dtype=torch.int64)
        self.behind, self.depth = none, none  # int64[B, fed] each
        self.longest = 0  # tokens of the longest list so far

    def extend(self, nodes: Tensor, behind: Tensor, fed: Tensor, children: Tensor, real: Tensor) -> Tensor:
        """See `ListStepper.extend`."""
        before = torch.nn.functional.pad(self.depth, (1, 0)).gather(1, behind + 1)
        numbers = torch.arange(nodes.shape[1], device=nodes.device) + self.depth.shape[1]
        self.behind, self.depth = torch.cat([self.behind, behind], 1), torch.cat([self.depth, before + 1], 1)
        self.longest += 1
        hidden = self.model.read(nodes, before + 1, self._ancestors(numbers.expand_as(nodes)))
        trie = self.model.trie
        levels = trie.depths(nodes).masked_fill(trie.is_leaf(nodes), 0)
        return self.model.log_p(hidden, levels, fed, children, real)

    def _ancestors(self, numbers: Tensor) -> Tensor:
        """`bool[B, T, fed]`: a position sees itself and whatever it stands behind, back to the prompt."""
        width = self.behind.shape[1]
        sees = torch.zeros(*numbers.shape, width + 1, dtype=torch.bool, device=numbers.device)
        here = numbers
        for _ in range(self.longest):
            sees.scatter_(2, torch.where(here < 0, width, here)[..., None], True)
            here = torch.where(here < 0, -1, self.behind.gather(1, here.clamp(min=0)))
        return sees[..., :width]
