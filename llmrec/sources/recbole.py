"""RecBole's atomic files: tab-separated tables whose header names a type for every column.

`NAME.inter` holds the events (`user_id:token item_id:token rating:float timestamp:float`), `NAME.item` the items.
Format: Zhao et al., "RecBole", CIKM 2021, https://recbole.io/atomic_files.html.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from llmrec.errors import DataError
from llmrec.sources.assemble import assemble
from llmrec.sources.base import Dataset
from llmrec.sources.columns import as_numbers
from llmrec.sources.files import digest, read_delimited, require
from llmrec.sources.table import TableChecks

TYPES = ("token", "token_seq", "float", "float_seq")


class RecBoleSource(TableChecks):
    """A folder of atomic files.

    Args:
        root: the folder.
        name: the data set's name, which is the stem of its files; None takes the folder's name.

    Column names in `columns` are those before the colon. A `token_seq` is kept as it is written, words with spaces;
    a `float` of the items becomes a number; a `float_seq` is left out.
    """

    root: Path
    name: str | None = None

    def load(self) -> Dataset:
        """Read `NAME.inter` and `NAME.item`.

        Raises:
            DataError: with file, row, column and what to do.
        """
        events, items = self._paths()
        where = (str(events), str(items))
        return assemble(read_atomic(events), read_atomic(items), self.columns, self, where)

    def fingerprint(self) -> str:
        """SHA-256 over the contents of both files."""
        return digest(self._paths())

    def _paths(self) -> tuple[Path, Path]:
        name = self.name or self.root.resolve().name
        return self.root / f"{name}.inter", self.root / f"{name}.item"


def read_atomic(path: Path) -> pa.Table:
    """One atomic file, columns named without their types: `token` and `token_seq` as text, `float` as numbers.

    Raises:
        DataError: the file is missing or damaged, or a header names no known type.
    """
    raw = read_delimited(require(path), "\t", quoted=False)
    columns = {}
    for header in raw.column_names:
        name, _, kind = header.partition(":")
        if kind not in TYPES:
            raise DataError(
                f"the header '{header}' names no type.", where=str(path), fix=f"Write '{name}:' and one of {TYPES}."
            )
        if kind != "float_seq":
            columns[name] = as_numbers(raw[header], name, str(path)) if kind == "float" else raw[header]
    return pa.table(columns)
