"""Items as text: the code of an item is its title, in the base model's own words.

Nothing about an item has to be learned before the model knows what it is, and a new item needs no training at all; the
price is ten times as many tokens. Titles are made unique and end with a mark, so that no title begins another one and
the words of a title elsewhere in a prompt are not taken for an item. "How to Index Item IDs" (Hua et al., 2023) calls
this title indexing; the trie over text tokens is that of GENRE (De Cao et al., 2021).
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from transformers import PreTrainedTokenizerBase

from llmrec.component import Component
from llmrec.data.catalog import Catalog
from llmrec.data.interactions import Interactions
from llmrec.encoders.vectors import require_items
from llmrec.errors import RecipeError
from llmrec.indexes.base import END, ItemIndex
from llmrec.indexes.plain_text import PlainText
from llmrec.indexes.provenance import provenance_of

END_OF_ITEM = "<|item_end|>"
UNTITLED = "untitled"


class TitleIndex(Component):
    """Codes from titles, cut after a number of tokens and numbered where they agree.

    Args:
        tokenizer: whose words are used, a folder or a Hub name; the same as the base model's.
        fields: catalog columns that are joined to the item's text.
        max_tokens: tokens kept of a text; the number and the end mark come on top.
    """

    kind: ClassVar[str] = "title"

    tokenizer: str
    fields: list[str] = Field(default=["title"], min_length=1)
    max_tokens: int = Field(default=24, ge=1)

    def build(self, catalog: Catalog, train: Interactions) -> ItemIndex:
        """The titles of every catalog row; `train` is not used.

        Raises:
            DataError: a field is not a column.
            ArtifactError: the tokenizer cannot be found.
        """
        require_items(len(catalog))
        tokenizer, plain = self._load()
        texts = self._texts(catalog, plain)
        unique = make_titles_unique(texts, plain, set())
        # Single characters are there for later items, whose titles may hold words that no title holds now.
        characters = [token for piece, token in tokenizer.get_vocab().items() if len(piece) == 1]
        added = set(tokenizer.added_tokens_decoder)
        words = sorted({token for text in unique for token in text} | (set(characters) - added))
        codes = _as_codes(unique, words, max(len(text) for text in unique) + 1)
        sizes = (len(words) + 1,) * codes.shape[1]
        plain_codes = _as_codes(texts, words, codes.shape[1])
        provenance = provenance_of(
            self.kind,
            self.settings(),
            catalog.items,
            codes,
            sizes,
            resolved_by="numbered titles",
            plain=plain_codes,
            mean_tokens=round(float((codes != END).sum(axis=1).mean()), 2),
        )
        pieces = (*tokenizer.convert_ids_to_tokens(words), END_OF_ITEM)
        return ItemIndex(codes, sizes, provenance, pieces=pieces)

    def add(self, index: ItemIndex, catalog: Catalog) -> ItemIndex:
        """New titles, in the pieces that the index has; a word that none of its titles holds is spelled out.

        Raises:
            RecipeError: two titles cannot be told apart within the longest code that the index has.
        """
        tokenizer, plain = self._load()
        pieces = index.pieces or ()
        words = [int(token) for token in tokenizer.convert_tokens_to_ids(list(pieces[:-1]))]
        known = set(words)
        room = index.codes.shape[1] - 1
        taken = {
            tuple(words[code] for code in row[: end - 1]) for row, end in zip(index.codes, index.lengths, strict=True)
        }
        spelled = [
            _spelled(text, known, tokenizer, plain)[:room]
            for text in self._texts(Catalog(catalog.table.slice(len(index))), plain)
        ]
        unique = make_titles_unique(spelled, plain, taken, room, known)
        return index.grown(_as_codes(unique, words, index.codes.shape[1]), catalog)

    def _load(self) -> tuple[PreTrainedTokenizerBase, PlainText]:
        from llmrec.base_models import load_tokenizer

        tokenizer = load_tokenizer(self.tokenizer)
        return tokenizer, PlainText(tokenizer)

    def _texts(self, catalog: Catalog, plain: PlainText) -> list[tuple[int, ...]]:
        texts = [text if text.strip() else UNTITLED for text in catalog.texts(self.fields)]
        return [tuple(ids[: self.max_tokens]) for ids in plain.encode_all(texts)]


def make_titles_unique(
    texts: list[tuple[int, ...]],
    plain: PlainText,
    taken: set[tuple[int, ...]],
    room: int | None = None,
    known: set[int] | None = None,
) -> list[tuple[int, ...]]:
    """The first of equal texts stays as it is, the next ones become "... (2)", "... (3)", ...

    Args:
        texts: token ids. plain: for the numbers. taken: texts that others have; grows.
        room: most tokens; the text is cut for its number where it must. known: the only tokens allowed.

    Raises:
        RecipeError: a number does not fit.
    """
    found, next_number = [], dict.fromkeys(texts, 2)
    reserved = taken | set(texts)
    for text in texts:
        unique = text
        while unique in taken or (unique != text and unique in reserved):
            suffix = plain.encode(f" ({next_number[text]})")
            next_number[text] += 1
            if (room is not None and len(suffix) > room) or (known is not None and not known.issuperset(suffix)):
                raise RecipeError(
                    "two titles are equal and no number can be written behind them in the pieces of this index. Build "
                    "it again with the new items, or give them other titles."
                )
            unique = (text if room is None else text[: room - len(suffix)]) + suffix
        taken.add(unique)
        found.append(unique)
    return found


def _spelled(
    text: tuple[int, ...], known: set[int], tokenizer: PreTrainedTokenizerBase, plain: PlainText
) -> tuple[int, ...]:
    """The text in known tokens; other words letter by letter, without the letters that are unknown too."""
    tokens: list[int] = []
    for token in text:
        letters = [token] if token in known else [t for c in tokenizer.decode([token]) for t in plain.encode(c)]
        tokens.extend(letter for letter in letters if letter in known)
    return tuple(tokens) or tuple(t for t in plain.encode(UNTITLED) if t in known) or (min(known),)


def _as_codes(texts: list[tuple[int, ...]], words: list[int], levels: int) -> NDArray[np.int32]:
    """`int32[N, levels]`: the place of every token in `words`, then the end mark, then `END`."""
    lengths = np.array([len(text) for text in texts])
    codes = np.full((len(texts), levels), END, np.int32)
    columns = np.arange(levels)
    flat = np.fromiter((token for text in texts for token in text), np.int64, int(lengths.sum()))
    order = np.argsort(words)
    codes[columns < lengths[:, None]] = order[np.searchsorted(words, flat, sorter=order)]
    codes[np.arange(len(texts)), lengths] = len(words)
    return codes
