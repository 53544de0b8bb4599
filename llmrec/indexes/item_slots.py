"""One place an item in place of its code's tokens, for models that read an item as one vector.

The ids behind the vocabulary stand for the items: `len(tokenizer) + row`. They are no tokens. Nobody can write them, a
model has no rows for them, and whoever embeds them puts each item's vector there.
"""

from __future__ import annotations

from llmrec.indexes.item_tokenizer import ItemTokenizer


class ItemSlots(ItemTokenizer):
    """An `ItemTokenizer` whose `encode` gives one id an item; text is encoded as ever."""

    @property
    def first(self) -> int:
        """The id of the first item."""
        return len(self.tokenizer)

    def encode(self, row: int) -> list[int]:
        """The item's slot."""
        return [self.first + int(row)]
