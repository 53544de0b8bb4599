"""Users to try the server with: histories from a file, for the page and for demonstrations.

A model folder holds nobody's history. Whoever serves such a file shows it to all who may ask (docs/threat_model.md).
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from llmrec.data.vocabulary import Vocabulary
from llmrec.recommenders.stream import COLUMNS, known_histories
from llmrec.sources.files import iter_batches
from llmrec.types import Ragged, Rows


class Users:
    """Histories by user id.

    Args:
        names: the users. histories: item rows, oldest first.
    """

    def __init__(self, names: Vocabulary, histories: Ragged) -> None:
        self.names, self.histories = names, histories

    @classmethod
    def none(cls) -> Users:
        """Nobody."""
        return cls(Vocabulary([]), Ragged.from_lists([]))

    @classmethod
    def read(cls, file: Path, items: Vocabulary) -> Users:
        """From parquet, CSV or TSV with the columns `user` and `history`.

        Raises:
            DataError: it cannot be read, or a user stands there twice.
        """
        table = pa.Table.from_batches(list(iter_batches(file, COLUMNS, 2**16)))
        return cls(Vocabulary(table["user"]), known_histories(table["history"], items)[0])

    def history(self, name: str) -> Rows | None:
        """The items of a user; None if there is no such user."""
        row = self.names.row(name)
        return None if row < 0 else self.histories[row]

    def like(self, text: str, limit: int) -> list[str]:
        """Users whose id contains a text, in the order of the file."""
        found = self.names.ids
        if text:
            found = found.filter(pc.match_substring(found, text))
        return [str(name) for name in found[:limit].to_pylist()]
