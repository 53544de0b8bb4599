"""The trie spelled in token ids: which tokens may follow which, for a whole batch at once.

Everything is a tensor operation over rows. An unknown token is no exception: a row that has left the trie stands
`NOWHERE`, and the caller decides what that means. A logits processor needs this, because raising would end the server.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from llmrec.errors import ArtifactError
from llmrec.indexes.item_tokenizer import ItemTokenizer
from llmrec.indexes.trie import ROOT, Trie

NOWHERE = -1
"""In place of a node: these tokens begin no item's code."""


@dataclass(frozen=True)
class EdgeTokens:
    """A trie and the tokens on its edges.

    Args:
        trie: the valid codes. token_ids: `int64[T]`, all tokens of codes, codebook by codebook.
        book_of_level: `int64[L]`. book_starts: `int64[books]`, where each codebook begins in `token_ids`.
    """

    trie: Trie
    token_ids: Tensor
    book_of_level: Tensor
    book_starts: Tensor

    @classmethod
    def of(cls, items: ItemTokenizer, device: torch.device | str = "cpu") -> EdgeTokens:
        """For an item tokenizer."""
        arrays = (items.token_ids, items.book_of_level, items.book_starts)
        return EdgeTokens(items.trie.to(device), *(torch.from_numpy(array).to(device) for array in arrays))

    def tokens_into(self, nodes: Tensor) -> Tensor:
        """`int64[...]`: the token on the edge into each node; any for the root."""
        books = self.book_of_level[(self.trie.depths(nodes) - 1).clamp(min=0)]
        return self.token_ids[self.book_starts[books] + self.trie.code[nodes].long().clamp(min=0)]


@dataclass(frozen=True)
class TokenTrie(EdgeTokens):
    """With what reads tokens that may be any.

    Args:
        places: `int64[vocabulary]`, where a token stands in `token_ids`, -1 for words.
        book_sizes: `int64[books]`. books: the token ids of each codebook. end: the token that ends a text.
    """

    places: Tensor
    book_sizes: Tensor
    books: tuple[Tensor, ...]
    end: int

    @classmethod
    def of(cls, items: ItemTokenizer, device: torch.device | str = "cpu") -> TokenTrie:
        """For an item tokenizer.

        Raises:
            ArtifactError: the tokenizer names no token that ends a text.
        """
        device, end = torch.device(device), items.tokenizer.eos_token_id
        if end is None:
            raise ArtifactError(
                "the tokenizer has no eos_token, so nothing could end an item's code. Set one in tokenizer_config.json."
            )
        edges = EdgeTokens.of(items, device)
        return cls(
            *(edges.trie, edges.token_ids, edges.book_of_level, edges.book_starts),
            items.places(device),
            torch.tensor([len(book) for book in items.codebooks], device=device),
            tuple(torch.from_numpy(book).to(device) for book in items.codebooks),
            int(end),
        )

    @property
    def device(self) -> torch.device:
        """Where it lives."""
        return self.trie.code.device

    def path(self, nodes: Tensor) -> list[list[int]]:
        """The tokens on the way from the root to each of `int64[n]` nodes."""
        here, columns = nodes, []
        for _ in range(self.trie.depth):
            columns.append(torch.where(here > ROOT, self.tokens_into(here.clamp(min=ROOT)), -1))
            here = torch.where(here > ROOT, self.trie.parents(here.clamp(min=ROOT)), ROOT)
        ways = torch.stack(columns[::-1], 1).tolist() if columns else [[] for _ in range(len(nodes))]
        return [[token for token in way if token >= 0] for way in ways]

    def step(self, nodes: Tensor, tokens: Tensor) -> Tensor:
        """Follow one token from each node.

        Args:
            nodes: `int64[B]`, `NOWHERE` allowed. tokens: `int64[B]`, any.

        Returns:
            `int64[B]`, `NOWHERE` where no item's code goes on like this.
        """
        here = nodes.clamp(min=ROOT)
        books = self.book_of_level[self.trie.depths(here).clamp(max=self.trie.depth - 1)]
        known = (tokens >= 0) & (tokens < len(self.places))
        codes = self.places[torch.where(known, tokens, 0)] - self.book_starts[books]
        known &= (codes >= 0) & (codes < self.book_sizes[books]) & (nodes >= ROOT)
        found = self.trie.find(here, torch.where(known, codes, -1))
        return torch.where(known, found, NOWHERE)

    def walk(self, tokens: Tensor, counts: Tensor) -> Tensor:
        """Follow several tokens from the root.

        Args:
            tokens: `int64[B, T]`. counts: `int64[B]`, how many count. `T` need not exceed `trie.depth + 1`, since no
                code is as long.

        Returns:
            `int64[B]` nodes, `NOWHERE` where no item's code begins like this.
        """
        nodes = torch.full(counts.shape, ROOT, dtype=torch.int64, device=counts.device)
        for place in range(tokens.shape[1]):
            nodes = torch.where(place < counts, self.step(nodes, tokens[:, place]), nodes)
        return nodes
