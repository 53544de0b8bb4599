"""Which items does a text name, and may it? A check of explanations that knows nothing of how they were made.

    Names(catalog).foreign("“Volcano” fits because of “Twister”.", allowed=[3, 7])    # [] where these two are they

An item is named where its title stands, word for word and from the beginning of a word to the end of one. A title
within a longer title that may be named ("Pen" within "Pen and Ink") is not a name of its own.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator

from llmrec.data.catalog import Catalog

Span = tuple[int, int]


class Names:
    """The titles of a catalog, to look for in many texts.

    Args:
        catalog: its titles; an empty one names nothing.
    """

    def __init__(self, catalog: Catalog) -> None:
        self._rows: dict[str, list[int]] = defaultdict(list)
        for row, title in enumerate(catalog.table["title"].to_pylist()):
            if title and title.strip():
                self._rows[title].append(row)

    def foreign(self, text: str, allowed: Iterable[int]) -> list[int]:
        """The rows of items that a text names and must not, ascending.

        Args:
            allowed: rows that may be named. Of items with one title it is enough that one may be.
        """
        may = set(allowed)
        named = {title: list(_places(text, title)) for title in self._rows if title in text}
        covered = [span for title, spans in named.items() if may & set(self._rows[title]) for span in spans]
        found: list[int] = []
        for title, spans in named.items():
            if not may & set(self._rows[title]) and any(not _within(span, covered) for span in spans):
                found += self._rows[title]
        return sorted(found)


def _places(text: str, title: str) -> Iterator[Span]:
    for match in re.finditer(re.escape(title), text):
        start, end = match.span()
        cut_in = start > 0 and text[start - 1].isalnum() and title[0].isalnum()
        cut_off = end < len(text) and text[end].isalnum() and title[-1].isalnum()
        if not cut_in and not cut_off:
            yield start, end


def _within(span: Span, others: Iterable[Span]) -> bool:
    return any(start <= span[0] and span[1] <= end for start, end in others)
