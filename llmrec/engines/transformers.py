"""The embedded engine: constrained decoding in plain PyTorch + transformers, on CPU or GPU.

The prompts of a batch are prefilled once. At each step all beams of a user are fed as query positions of that one
sequence; a tree mask lets a beam see the prompt and its own ancestors only. Prompt keys and values are never copied or
reordered per beam, which is what makes ordinary beam search pay for the prompt once a beam.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from llmrec.engines.base import Normalize
from llmrec.engines.beam import Ranking, search
from llmrec.engines.head import LevelHead
from llmrec.engines.mask import NodeMask
from llmrec.engines.normalize import log_probabilities
from llmrec.errors import DecodingError
from llmrec.indexes.item_tokenizer import ItemTokenizer
from llmrec.indexes.trie import Trie
from llmrec.types import Ragged, Rows, ScoredItems

LOGITS_AT_ONCE = 2**25
"""Logits (128 MB of float32) that are computed at once; a title's vocabulary has thousands of rows."""


class TransformersEngine:
    """Decode items with a causal language model of transformers.

    Args:
        model: the model, in the dtype and on the device to decode with.
        item_tokenizer: its item tokens and trie.
    """

    def __init__(self, model: PreTrainedModel, item_tokenizer: ItemTokenizer) -> None:
        self.model = model
        self.item_tokenizer = item_tokenizer
        self.trie = item_tokenizer.trie.to(model.device)

    def decode(
        self,
        prompts: Sequence[Sequence[int]],
        k: int,
        beams: int,
        normalize: Normalize = "codebook",
        excluded: Ragged | None = None,
        candidates: Rows | None = None,
        length_penalty: float = 0.0,
    ) -> ScoredItems:
        """See `Engine.decode`."""
        if any(len(prompt) == 0 for prompt in prompts):
            raise DecodingError("a prompt has no token. Give the template at least one word before the history.")
        if k < 1 or beams < 1:
            raise DecodingError(f"k={k} and beams={beams} must be at least 1.")
        was_training = self.model.training
        self.model.eval()
        try:
            with torch.inference_mode():
                stepper = TreeStepper(self.model, self.item_tokenizer, self.trie, prompts, normalize)
                mask = NodeMask.of(self.trie, len(prompts), excluded, candidates)
                ranking = Ranking(normalize, length_penalty)
                return search(self.trie, stepper, len(prompts), k, beams, ranking, mask)
        finally:
            self.model.train(was_training)


class TreeStepper:
    """The model's side of `beam.search`: one key-value cache a user, grown by all beams at once."""

    def __init__(
        self,
        model: PreTrainedModel,
        item_tokenizer: ItemTokenizer,
        trie: Trie,
        prompts: Sequence[Sequence[int]],
        normalize: Normalize,
    ) -> None:
        self.trie, self.items, self.normalize = trie, item_tokenizer, normalize
        self.decoder = model.get_decoder()
        self.head = LevelHead(model)
        self.cache = DynamicCache(config=model.config)
        device = model.device
        self.token_ids = torch.from_numpy(item_tokenizer.token_ids).to(device)
        self.book_of_level = torch.from_numpy(item_tokenizer.book_of_level).to(device)
        self.book_starts = torch.from_numpy(item_tokenizer.book_starts).to(device)
        self.lengths = torch.tensor([len(prompt) for prompt in prompts], device=device)  # (B,)
        width = int(self.lengths.max())
        # Right padding: a prompt's own tokens never see the padding behind them, so prefill needs no mask.
        self.prompt_ids = torch.tensor([[*prompt, *[0] * (width - len(prompt))] for prompt in prompts], device=device)
        columns = torch.arange(width, device=device)
        self.prompt_visible = columns < self.lengths[:, None]  # (B, P)
        self.in_cache = torch.empty(len(prompts), 0, dtype=torch.int64, device=device)  # (B, fed): the nodes behind it
        self.is_node = torch.empty(len(prompts), 0, dtype=torch.bool, device=device)  # (B, fed): false on padding

    def first(self, children: Tensor, real: Tensor) -> Tensor:
        """See `Stepper.first`."""
        hidden = self.decoder(
            input_ids=self.prompt_ids, past_key_values=self.cache, use_cache=True
        ).last_hidden_state  # (B, P, D)
        last = hidden[torch.arange(len(hidden), device=hidden.device), self.lengths - 1]
        fed = torch.ones(len(hidden), 1, dtype=torch.bool, device=hidden.device)
        return self._log_p(last[:, None], torch.zeros_like(fed, dtype=torch.int64), fed, children, real)

    def extend(self, nodes: Tensor, fed: Tensor, children: Tensor, real: Tensor) -> Tensor:
        """See `Stepper.extend`."""
        self.in_cache = torch.cat([self.in_cache, nodes], 1)
        self.is_node = torch.cat([self.is_node, fed], 1)
        depths = self.trie.depths(nodes)  # (B, T)
        hidden = self.decoder(
            input_ids=self._tokens(nodes, depths),
            attention_mask=self._tree_mask(nodes),
            position_ids=self.lengths[:, None] + depths - 1,
            past_key_values=self.cache,
            use_cache=True,
        ).last_hidden_state  # (B, T, D)
        return self._log_p(hidden, depths, fed, children, real)

    def _tokens(self, nodes: Tensor, depths: Tensor) -> Tensor:
        """`int64[B, T]`: the token on the edge into each node; any on padding, which nobody sees."""
        starts = self.book_starts[self.book_of_level[(depths - 1).clamp(min=0)]]
        return self.token_ids[starts + self.trie.code[nodes].long().clamp(min=0)]

    def _tree_mask(self, nodes: Tensor) -> Tensor:
        """`bool[B, 1, T, P + fed]`: a node sees its user's prompt, its ancestors and itself."""
        before = self.prompt_visible[:, None].expand(-1, nodes.shape[1], -1)
        above = self.trie.is_under(nodes[:, :, None], self.in_cache[:, None]) & self.is_node[:, None]
        return torch.cat([before, above], dim=-1)[:, None]

    def _log_p(self, hidden: Tensor, levels: Tensor, fed: Tensor, children: Tensor, real: Tensor) -> Tensor:
        """`float32[B, T, C]`; each position meets the rows of the level that follows it."""
        found = torch.full(children.shape, -torch.inf, device=hidden.device)
        books = self.book_of_level[levels]  # (B, T); no leaf is fed, so a level follows
        for book in range(len(self.items.codebooks)):
            at = fed & (books == book)
            if not bool(at.any()):
                continue
            states, rows = hidden[at], self.head.rows(self.items.rows_of(book))
            codes, is_child = self.trie.scored_as[children[at]].long(), real[at]
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
