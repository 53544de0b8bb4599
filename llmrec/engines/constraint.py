"""Logits in, logits of real items out: the part that both of vLLM's logits-processor interfaces share.

A row's logits become -inf everywhere but at the tokens that may follow; behind a complete code, and where the tokens so
far begin no item's code, only the end of the text may follow. No row is ever left unconstrained.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import get_args

import numpy as np
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from torch import Tensor

from llmrec import artifact
from llmrec.data.catalog import Catalog
from llmrec.engines.base import Normalize
from llmrec.engines.item_requests import ItemRequest, Reach, Reaches
from llmrec.engines.normalize import log_probabilities
from llmrec.engines.token_trie import TokenTrie
from llmrec.errors import ArtifactError
from llmrec.indexes.item_tokenizer import ItemTokenizer
from llmrec.indexes.trie import ROOT
from llmrec.types import Rows

FLOOR = -1e30
"""In place of NaN and -inf at a token that may follow: whatever the model or another processor says, one of them is
drawn. Far enough from the end of float32 that a penalty or a temperature does not make it -inf again."""


class ItemConstraint:
    """The items of one model folder, on the device of the logits.

    Args:
        items: codes and tokens. device: where the logits are. catalog_file: where item ids are found, if there is one.
    """

    def __init__(
        self, items: ItemTokenizer, device: torch.device | str = "cpu", catalog_file: Path | None = None
    ) -> None:
        self.items, self.catalog_file = items, catalog_file
        self.tokens = TokenTrie.of(items, device)
        self.tokens_on_cpu = self.tokens if self.tokens.trie.code.is_cpu else TokenTrie.of(items)

    @classmethod
    def load(cls, model: str, revision: str | None, device: torch.device | str) -> ItemConstraint:
        """Read what a served model needs.

        Args:
            model: a model folder, or a repository of the Hub.

        Raises:
            ArtifactError: it is not a model folder of llmrec, or an adapter that has not been merged.
        """
        folder = served_folder(model, revision)
        return cls(ItemTokenizer.load(folder), device, folder / artifact.CATALOG)

    def reach(self, request: ItemRequest) -> Reach | None:
        """What a request may enter."""
        return Reach.of(self.items, request, self._rows_of)

    def reaches(self, reaches: Sequence[Reach | None]) -> Reaches | None:
        """What a batch may enter."""
        return Reaches.of(reaches, len(self.tokens.trie.code), self.tokens.device)

    def apply(
        self,
        logits: Tensor,
        nodes: Tensor,
        slots: Tensor,
        reaches: Reaches | None = None,
        scored: Mapping[Normalize, Tensor] | None = None,
    ) -> Tensor:
        """Constrain logits in place.

        Args:
            logits: `float32[B, V]`. nodes: `int64[B]`, where each row stands. slots: `int64[B]`, whose row it is.
            reaches: what each slot may enter; everything when None.
            scored: rows `int64[n]` that get log-probabilities in place of logits, by what these are normalised over.

        Returns:
            `logits`.
        """
        trie = self.tokens.trie
        width = None if logits.is_cpu else trie.fan_out
        children, real = trie.children(nodes.clamp(min=ROOT), width)  # (B, C)
        real &= (nodes >= ROOT)[:, None]
        is_open = real if reaches is None else real & reaches.open_nodes(slots, children)
        # The last column is the end of the text, open where nothing else is.
        tokens = torch.nn.functional.pad(self.tokens.tokens_into(children), (0, 1), value=self.tokens.end)
        is_open = torch.cat([is_open, ~is_open.any(1, keepdim=True)], 1)
        first = is_open.int().argmax(1, keepdim=True)
        tokens = torch.where(is_open, tokens, tokens.gather(1, first))  # padding repeats a token that may follow
        values = logits.gather(1, tokens).nan_to_num(nan=FLOOR, posinf=-FLOOR, neginf=FLOOR).clamp(min=FLOOR)
        for normalize, rows in (scored or {}).items():
            said = self._log_p(logits[rows], nodes[rows], children[rows], real[rows], normalize)
            values[rows, :-1] = torch.where(real[rows], said, values[rows, :-1]).to(values.dtype)
        values = torch.where(is_open, values, values.gather(1, first))
        return logits.fill_(-torch.inf).scatter_(1, tokens, values)

    def _log_p(self, logits: Tensor, nodes: Tensor, children: Tensor, real: Tensor, normalize: Normalize) -> Tensor:
        """`float32[n, C]`: the log-probability of each child, as the embedded engine says it."""
        found = torch.full(children.shape, -torch.inf, device=logits.device)
        trie = self.tokens.trie
        levels = trie.depths(nodes.clamp(min=ROOT)).clamp(max=trie.depth - 1)
        books = self.tokens.book_of_level[levels]
        for number, book in enumerate(self.tokens.books):
            at = books == number
            rows = logits[at].float()
            whole = rows.logsumexp(-1) if normalize == "vocab" else None
            codes = trie.scored_as(children[at])
            found[at] = log_probabilities(rows[:, book], codes, real[at], normalize, whole)
        return found

    def _rows_of(self, ids: Sequence[str]) -> Rows:
        return self._catalog.items.rows(ids)

    @cached_property
    def _catalog(self) -> Catalog:
        if self.catalog_file is None or not self.catalog_file.is_file():
            raise ArtifactError("the model folder has no catalog.parquet, so items can be named by their rows only.")
        return Catalog(pq.read_table(self.catalog_file))


def served_folder(model: str, revision: str | None = None) -> Path:
    """The folder of a model that vLLM is to serve.

    Raises:
        ArtifactError: it holds no item index, or an adapter that has not been merged.
    """
    folder = Path(model)
    if not folder.is_dir():
        from huggingface_hub import snapshot_download

        wanted = ["*.json", "*.txt", "*.model", f"{artifact.ITEM_INDEX}/*", artifact.CATALOG]
        folder = Path(snapshot_download(model, revision=revision, allow_patterns=wanted))
    if (folder / "adapter_config.json").exists():
        raise ArtifactError(
            f"{model} holds an adapter that is not merged into its model. vLLM drops the trained rows of the item "
            "tokens, or stops at them. Merge it first (PEFT's `merge_and_unload`; llmrec itself saves merged weights)."
        )
    if not (folder / artifact.ITEM_INDEX).is_dir():
        raise ArtifactError(
            f"{model} has no {artifact.ITEM_INDEX}/: it is no model folder of llmrec. Serve a folder that "
            "`save_pretrained` wrote."
        )
    return folder


def tokens_of_rows(lists: Sequence[Sequence[int]], width: int) -> tuple[Tensor, Tensor]:
    """The first `width` tokens of each list, `int64[n, width]` padded with -1, and how many the list has."""
    counts = np.fromiter(map(len, lists), np.int64, len(lists))
    tokens = np.full((len(lists), width), -1, np.int64)
    for row, ids in enumerate(lists):
        tokens[row, : min(len(ids), width)] = ids[:width]
    return torch.from_numpy(tokens), torch.from_numpy(counts)


SCORES: tuple[Normalize, ...] = get_args(Normalize)


def score_kind(request: ItemRequest) -> int:
    """`item_scores` as a number, for arrays: 0 is none."""
    return 0 if request.scores is None else 1 + SCORES.index(request.scores)


def scored_rows(kinds: NDArray[np.int8], device: torch.device) -> dict[Normalize, Tensor]:
    """The rows of each kind that occurs, out of `score_kind` of every row."""
    if not kinds.any():
        return {}
    rows = {name: np.flatnonzero(kinds == 1 + number) for number, name in enumerate(SCORES)}
    return {name: torch.from_numpy(which).to(device) for name, which in rows.items() if len(which)}
