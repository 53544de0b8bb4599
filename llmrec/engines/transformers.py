"""The embedded engine: constrained decoding in plain PyTorch + transformers, on CPU or GPU.

The prompts of a batch are prefilled once. At each level all beams of a user are fed as query positions of that one
sequence; a tree mask lets a beam see the prompt and its own ancestors only. Prompt keys and values are never copied or
reordered per beam, which is what makes ordinary beam search pay for the prompt once a beam.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from llmrec.engines.base import Normalize
from llmrec.engines.beam import LevelLogits, search
from llmrec.engines.head import LevelHead
from llmrec.engines.mask import NodeMask
from llmrec.errors import DecodingError
from llmrec.indexes.item_tokenizer import ItemTokenizer
from llmrec.types import Ragged, Rows, ScoredItems


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
                stepper = TreeStepper(self.model, self.item_tokenizer, prompts, normalize)
                mask = NodeMask.of(self.trie, len(prompts), excluded, candidates)
                return search(self.trie, stepper, len(prompts), k, beams, normalize, mask)
        finally:
            self.model.train(was_training)


class TreeStepper:
    """The model's side of `beam.search`: one key-value cache a user, grown by all beams at once."""

    def __init__(
        self,
        model: PreTrainedModel,
        item_tokenizer: ItemTokenizer,
        prompts: Sequence[Sequence[int]],
        normalize: Normalize,
    ) -> None:
        self.model, self.items, self.normalize = model, item_tokenizer, normalize
        self.decoder = model.get_decoder()
        self.head = LevelHead(model)
        self.cache = DynamicCache(config=model.config)
        device = model.device
        self.lengths = torch.tensor([len(prompt) for prompt in prompts], device=device)  # (B,)
        width = int(self.lengths.max())
        # Right padding: a prompt's own tokens never see the padding behind them, so prefill needs no mask.
        self.prompt_ids = torch.tensor([[*prompt, *[0] * (width - len(prompt))] for prompt in prompts], device=device)
        columns = torch.arange(width, device=device)
        self.prompt_visible = columns < self.lengths[:, None]  # (B, P)
        self.ancestors: Tensor | None = None  # (B, K, steps): where each beam's tokens stand in the steps so far

    def first(self) -> LevelLogits:
        hidden = self.decoder(
            input_ids=self.prompt_ids, past_key_values=self.cache, use_cache=True
        ).last_hidden_state  # (B, P, D)
        last = hidden[torch.arange(len(hidden), device=hidden.device), self.lengths - 1]
        return self._logits(last[:, None], 0)

    def next(self, level: int, parents: Tensor, codes: Tensor) -> LevelLogits:
        users, beams = parents.shape
        own = torch.arange(beams, device=parents.device).expand(users, beams)[..., None]  # (B, K, 1)
        if self.ancestors is None:
            self.widths, self.ancestors = [beams], own
        else:
            inherited = self.ancestors.gather(1, parents[..., None].expand(-1, -1, self.ancestors.shape[-1]))
            self.widths, self.ancestors = [*self.widths, beams], torch.cat([inherited, own], dim=-1)
        hidden = self.decoder(
            input_ids=codes + self.items.level_starts[level - 1],
            attention_mask=self._tree_mask(),
            position_ids=(self.lengths + level - 1)[:, None].expand(users, beams),
            past_key_values=self.cache,
            use_cache=True,
        ).last_hidden_state  # (B, K, D)
        return self._logits(hidden, level)

    def _tree_mask(self) -> Tensor:
        """`bool[B, 1, K, P + fed]`: a beam sees its user's prompt, its ancestors and itself."""
        if self.ancestors is None:
            raise RuntimeError("the tree mask exists only after the first step")
        beams = self.ancestors.shape[1]
        parts = [self.prompt_visible[:, None].expand(-1, beams, -1)]
        for step, width in enumerate(self.widths):
            slots = torch.arange(width, device=self.ancestors.device)
            parts.append(self.ancestors[..., step, None] == slots)
        return torch.cat(parts, dim=-1)[:, None]

    def _logits(self, hidden: Tensor, level: int) -> LevelLogits:
        start, size = self.items.level_starts[level], self.items.index.level_sizes[level]
        normalizer = self.head.log_normalizer(hidden) if self.normalize == "vocab" else None
        return LevelLogits(self.head.logits(hidden, start, size), normalizer)
