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
from transformers import PreTrainedModel

from llmrec.engines.base import Normalize
from llmrec.engines.beam import Ranking
from llmrec.engines.bias import ItemBias
from llmrec.engines.mask import AllowedItems
from llmrec.engines.prefill import Prefill, prefill
from llmrec.engines.prompt_cache import PromptCache
from llmrec.engines.support import check_length, check_model
from llmrec.engines.token_trie import EdgeTokens
from llmrec.engines.top_k import check_prompts, check_request, top_k
from llmrec.engines.tree_stepper import ListTreeStepper, PromptedModel, TreeStepper
from llmrec.indexes.item_tokenizer import ItemTokenizer
from llmrec.types import Ragged, Rows, ScoredItems


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
                return TreeStepper(self._after(done, normalize))

            return top_k(
                self.trie, self.item_tokenizer.index.codes, stepper_of, len(prompts), k, beams,
                Ranking(normalize, length_penalty), excluded, candidates, bias, most_beams,
            )  # fmt: skip

    @contextmanager
    def stepper(self, prompts: Sequence[Sequence[int]], normalize: Normalize = "codebook") -> Iterator[TreeStepper]:
        """See `Engine.stepper`."""
        check_prompts(prompts)
        with self._asked(prompts):
            yield TreeStepper(self._after(prefill(self.model, prompts, self.prompts), normalize))

    @contextmanager
    def list_stepper(
        self, prompts: Sequence[Sequence[int]], length: int, normalize: Normalize = "codebook"
    ) -> Iterator[ListTreeStepper]:
        """See `Engine.list_stepper`."""
        check_prompts(prompts)
        with self._asked(prompts, length):
            yield ListTreeStepper(self._after(prefill(self.model, prompts, self.prompts), normalize))

    def _after(self, done: Prefill, normalize: Normalize) -> PromptedModel:
        return PromptedModel(self.model, self.item_tokenizer, self.tokens, done, normalize)

    @contextmanager
    def _asked(self, prompts: Sequence[Sequence[int]], items: int = 1) -> Iterator[None]:
        """The model as it must be while it is asked about prompts of an allowed length, and so many items behind."""
        check_length(self.model, max(map(len, prompts), default=0), self.item_tokenizer.levels * items)
        was_training = self.model.training
        self.model.eval()
        try:
            with torch.inference_mode():
                yield
        finally:
            self.model.train(was_training)
