"""Exact constrained top-k on vLLM: the same search over the same trie, with vLLM computing the log-probabilities.

vLLM's own beam search ignores logits processors, so the search stays here (`llmrec.engines.beam`). At each level the
prefixes of all users go to vLLM in one call, as requests for one token each; their prompts are in its prefix cache, and
the logits processor gives the log-probability of every child instead of a sample.

    from llmrec.engines.vllm import VLLMEngine
    engine = VLLMEngine.load("runs/shop")
    engine.decode([[5, 6, 7]], k=10, beams=20)
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llmrec.engines.base import Normalize
from llmrec.engines.beam import Ranking
from llmrec.engines.bias import ItemBias
from llmrec.engines.constraint import served_folder
from llmrec.engines.mask import AllowedItems
from llmrec.engines.token_trie import TokenTrie
from llmrec.engines.top_k import check_prompts, check_request, top_k
from llmrec.engines.vllm_loop import OnLoop
from llmrec.errors import DecodingError, MissingExtraError
from llmrec.indexes.item_tokenizer import ItemTokenizer
from llmrec.indexes.trie import ROOT
from llmrec.types import Ragged, Rows, ScoredItems

PROCESSOR = "llmrec.engines.logits_processor:TrieLogitsProcessor"

CPU_BLOCK = 32
"""Tokens in a block of the cache on a CPU. Only whole blocks are found again, and vLLM's default there is 128."""


class Backend(Protocol):
    """A running vLLM."""

    @property
    def model_config(self) -> Any:
        """VLLM's `ModelConfig`."""
        ...

    def __call__(self, prompts: list[list[int]], params: list[Any]) -> list[Any]:
        """Answer requests, all at once.

        Args:
            prompts: `n` lists of token ids. params: `n` `SamplingParams`.

        Returns:
            `n` of vLLM's `RequestOutput`.
        """
        ...


class OfflineBackend:
    """A `vllm.LLM`."""

    def __init__(self, llm: Any) -> None:
        self.llm = llm

    @property
    def model_config(self) -> Any:
        """See `Backend`."""
        return self.llm.llm_engine.vllm_config.model_config

    def __call__(self, prompts: list[list[int]], params: list[Any]) -> list[Any]:
        """See `Backend`."""
        return list(self.llm.generate([{"prompt_token_ids": ids} for ids in prompts], params, use_tqdm=False))


class AsyncBackend(OnLoop):
    """A `vllm.AsyncLLM` on an event loop; for engines that threads of other requests use at the same time."""

    def __call__(self, prompts: list[list[int]], params: list[Any]) -> list[Any]:
        """See `Backend`."""
        asked = zip(prompts, params, strict=True)
        return self.outputs(partial(self.llm.generate, {"prompt_token_ids": ids}, how) for ids, how in asked)


class VLLMEngine:
    """Decode items with vLLM.

    Args:
        backend: a vLLM that was started with `settings_for` the same folder.
        item_tokenizer: the item tokens and trie of that folder.

    Raises:
        DecodingError: vLLM was started with other settings, so its answers would not be scores.
    """

    def __init__(self, backend: Backend, item_tokenizer: ItemTokenizer) -> None:
        _check_settings(backend.model_config, item_tokenizer)
        self.backend, self.item_tokenizer = backend, item_tokenizer
        self.tokens = TokenTrie.of(item_tokenizer)
        self.trie = self.tokens.trie

    @classmethod
    def load(cls, folder: str | Path, items: ItemTokenizer | None = None, **settings: Any) -> VLLMEngine:
        """Start vLLM on a model folder.

        Args:
            items: those of the folder, where they have been read already.
            settings: further arguments of `vllm.LLM`, such as `dtype` or `gpu_memory_utilization`.

        Raises:
            MissingExtraError: vLLM is not installed.
            ArtifactError: it is no model folder, or holds an adapter that is not merged.
        """
        require_vllm()
        from vllm import LLM

        served = served_folder(str(folder))
        items = ItemTokenizer.load(served) if items is None else items
        return cls(OfflineBackend(LLM(**{**settings_for(folder, items), **settings})), items)

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

        def stepper_of(users: NDArray[np.int64]) -> VLLMStepper:
            return VLLMStepper(self.backend, self.tokens, [prompts[int(user)] for user in users], normalize)

        with torch.inference_mode():
            return top_k(
                self.trie, self.item_tokenizer.index.codes, stepper_of, len(prompts), k, beams,
                Ranking(normalize, length_penalty), excluded, candidates, bias, most_beams,
            )  # fmt: skip

    @contextmanager
    def stepper(self, prompts: Sequence[Sequence[int]], normalize: Normalize = "codebook") -> Iterator[VLLMStepper]:
        """See `Engine.stepper`."""
        check_prompts(prompts)
        with torch.inference_mode():
            yield VLLMStepper(self.backend, self.tokens, prompts, normalize)

    @contextmanager
    def list_stepper(
        self, prompts: Sequence[Sequence[int]], length: int, normalize: Normalize = "codebook"
    ) -> Iterator[VLLMListStepper]:
        """See `Engine.list_stepper`."""
        check_prompts(prompts)
        with torch.inference_mode():
            yield VLLMListStepper(self.backend, self.tokens, prompts, normalize)


class VLLMStepper:
    """See `Stepper`: every node that is fed is a request whose prompt ends with its code."""

    def __init__(
        self, backend: Backend, tokens: TokenTrie, prompts: Sequence[Sequence[int]], normalize: Normalize
    ) -> None:
        self.backend, self.tokens, self.normalize = backend, tokens, normalize
        self.prompts = [list(prompt) for prompt in prompts]

    def first(self, children: Tensor, real: Tensor) -> Tensor:
        """See `Stepper.first`."""
        root = torch.full(children.shape[:2], ROOT, dtype=torch.int64)
        return self.extend(root, torch.ones_like(root, dtype=torch.bool), children, real)

    def extend(self, nodes: Tensor, fed: Tensor, children: Tensor, real: Tensor) -> Tensor:
        """See `Stepper.extend`."""
        asked = self.asked(fed, real)
        users, paths = asked.nonzero()[:, 0].tolist(), self.tokens.path(nodes[asked])
        whole = [self.prompts[user] + path for user, path in zip(users, paths, strict=True)]
        return self.log_p(whole, list(map(len, paths)), asked, children, real)

    def asked(self, fed: Tensor, real: Tensor) -> Tensor:
        """`bool[B, T]`: what vLLM must be asked; a single child is certain when scores are normalised over children."""
        return fed & (real.sum(-1) > (1 if self.normalize == "children" else 0))

    def log_p(
        self, whole: list[list[int]], prefixes: list[int], asked: Tensor, children: Tensor, real: Tensor
    ) -> Tensor:
        """The answer of `extend`.

        Args:
            whole: `n` lists of token ids, up to the prefix of an item that is asked about. prefixes: tokens of each.
            asked: `bool[B, T]`, the `n` nodes they belong to; at the others a child is certain.
        """
        found = torch.where(real, 0.0, -torch.inf)
        if whole:
            counts = real.sum(-1)[asked].tolist()
            how = [_one_step(self.normalize, prefix, count) for prefix, count in zip(prefixes, counts, strict=True)]
            found[asked] = self._read(self.backend(whole, how), children[asked], real[asked])
        return found

    def _read(self, outputs: list[Any], children: Tensor, real: Tensor) -> Tensor:
        """`float32[n, C]` out of `n` answers; a child that an answer does not name has no probability left."""
        size = len(self.tokens.places)
        said = [output.outputs[0].logprobs for output in outputs]
        counts = torch.tensor([len(one.token_ids) for one in said])
        tokens = torch.tensor([token for one in said for token in one.token_ids])
        log_p = torch.tensor([value for one in said for value in one.logprobs])
        keys = torch.repeat_interleave(torch.arange(len(said)), counts) * size + tokens
        wanted = torch.arange(len(said))[:, None] * size + self.tokens.tokens_into(children)
        keys, order = keys.sort()
        at = torch.searchsorted(keys, wanted).clamp(max=len(keys) - 1)
        return torch.where(real & (keys[at] == wanted), log_p[order][at], -torch.inf)


class VLLMListStepper:
    """See `ListStepper`: every node that is fed is a request whose prompt ends with its list."""

    def __init__(
        self, backend: Backend, tokens: TokenTrie, prompts: Sequence[Sequence[int]], normalize: Normalize
    ) -> None:
        self.model = VLLMStepper(backend, tokens, prompts, normalize)
        self.first = self.model.first
        self.lists: list[list[list[int]]] = [[] for _ in prompts]  # by user and number, tokens behind the prompt

    def extend(self, nodes: Tensor, behind: Tensor, fed: Tensor, children: Tensor, real: Tensor) -> Tensor:
        """See `ListStepper.extend`."""
        trie, tokens = self.model.tokens.trie, self.model.tokens.tokens_into(nodes).tolist()
        for mine, new, before in zip(self.lists, tokens, behind.tolist(), strict=True):
            mine.extend(
                [(mine[number] if number >= 0 else []) + [token] for token, number in zip(new, before, strict=True)]
            )
        asked = self.model.asked(fed, real)
        prefixes = trie.depths(nodes).masked_fill(trie.is_leaf(nodes), 0)[asked].tolist()
        users, places = asked.nonzero(as_tuple=True)
        whole = [
            self.model.prompts[user] + self.lists[user][place - nodes.shape[1]]
            for user, place in zip(users.tolist(), places.tolist(), strict=True)
        ]
        return self.model.log_p(whole, prefixes, asked, children, real)


@lru_cache(maxsize=4096)
def _one_step(normalize: Normalize, prefix: int, children: int) -> Any:
    """Ask for the log-probabilities of all children behind a prefix of so many tokens."""
    from vllm import SamplingParams

    return SamplingParams(
        temperature=0,
        max_tokens=1,
        logprobs=children,
        flat_logprobs=True,
        detokenize=False,
        extra_args={"item_prefix": prefix, "item_scores": normalize},
    )


def settings_for(folder: str | Path, items: ItemTokenizer) -> dict[str, Any]:
    """Arguments of `vllm.LLM` or `AsyncEngineArgs` that `VLLMEngine` needs for a model folder."""
    return {
        **plain_settings(folder),
        "logits_processors": [PROCESSOR],
        "logprobs_mode": "processed_logits",
        "max_logprobs": items.trie.fan_out,
    }


def plain_settings(folder: str | Path) -> dict[str, Any]:
    """Those that every use of a model folder has."""
    settings: dict[str, Any] = {
        "model": str(folder),
        "load_format": "safetensors",  # by default vLLM reads a pickle where there are none
        "enable_prefix_caching": True,
    }
    if not torch.cuda.is_available():
        settings |= {"block_size": CPU_BLOCK, "enforce_eager": True}
    return settings


def _check_settings(config: Any, items: ItemTokenizer) -> None:
    wrong = []
    if PROCESSOR not in (config.logits_processors or ()):
        wrong.append(f"logits_processors={config.logits_processors} (wanted: [{PROCESSOR!r}])")
    if config.logprobs_mode != "processed_logits":
        wrong.append(f"logprobs_mode={config.logprobs_mode!r} (wanted: 'processed_logits')")
    if 0 <= config.max_logprobs < items.trie.fan_out:
        wrong.append(f"max_logprobs={config.max_logprobs} (wanted: at least {items.trie.fan_out})")
    if wrong:
        raise DecodingError(f"vLLM was started with {', '.join(wrong)}. Start it with `settings_for` the model folder.")


def require_vllm() -> None:
    """Say how to install vLLM where it is not.

    Raises:
        MissingExtraError: it is not.
    """
    if importlib.util.find_spec("vllm") is None:
        raise MissingExtraError("vllm", "vllm", "The engine 'vllm'")
