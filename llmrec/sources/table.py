"""The user's own two tables, from files or from Python, become a `Dataset`.

`TableSource(root="shop").load()` reads `shop/interactions.parquet` (or `.csv`, `.tsv`) and `shop/items.parquet`;
`from_frames(events, items, columns={"user": "customer", "item": "sku"})` takes frames.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
from pydantic import Field, model_validator

from llmrec.data.catalog import Catalog
from llmrec.errors import DataError
from llmrec.sources.assemble import Checks, assemble, clean_catalog
from llmrec.sources.base import Dataset
from llmrec.sources.columns import Columns
from llmrec.sources.files import SUFFIXES, digest, read_table, require


class TableChecks(Checks):
    """What can be said about two tables wherever they come from.

    Args:
        columns: what the columns are called.
    """

    columns: Columns = Field(default_factory=Columns)


class TableSource(TableChecks):
    """Interactions and items in parquet, CSV or TSV files.

    Args:
        root: a folder that holds `interactions.*` and `items.*`; the two paths below are relative to it.
        interactions, items: the two files; None looks for the usual names in `root`.
        encoding: of CSV and TSV files.
    """

    root: Path | None = None
    interactions: Path | None = None
    items: Path | None = None
    encoding: str = "utf8"

    @model_validator(mode="after")
    def _has_both(self) -> Self:
        if self.root is None and (self.interactions is None or self.items is None):
            raise ValueError("give root (a folder with interactions.* and items.*), or both interactions and items")
        return self

    def load(self) -> Dataset:
        """Read, clean and check both tables.

        Raises:
            DataError: with file, row, column and what to do.
        """
        paths = self._paths()
        events, items = (read_table(path, self.encoding) for path in paths)
        return assemble(events, items, self.columns, self, where=(str(paths[0]), str(paths[1])))

    def fingerprint(self) -> str:
        """SHA-256 over the contents of both files."""
        return digest(self._paths())

    def _paths(self) -> tuple[Path, Path]:
        return self._path("interactions", self.interactions), self._path("items", self.items)

    def _path(self, usual: str, given: Path | None) -> Path:
        folder = self.root or Path()
        if given is not None:
            return require(folder / given)
        there = (folder / f"{usual}{suffix}" for suffix in SUFFIXES)
        return next((path for path in there if path.exists()), None) or require(folder / f"{usual}.parquet")


def from_frames(interactions: Any, items: Any, **settings: Any) -> Dataset:
    """The same checks for tables that are already in memory.

    Args:
        interactions: who took what when: a pandas, polars or Arrow table, a `datasets.Dataset`, anything else that
            exports Arrow, a mapping of columns, or a list of records.
        items: what each item says about itself; the same kinds of table.
        **settings: those of `TableChecks`: `columns`, `repeats`, `unknown_items`, `max_chars`, `max_raw_bytes`.

    Raises:
        DataError: a table is none of these, or its content cannot be used.
        RecipeError: a setting is misspelt.
    """
    checks = TableChecks.parse(settings, "from_frames")
    return assemble(as_arrow(interactions, "interactions"), as_arrow(items, "items"), checks.columns, checks)


def items_from_frame(items: Any, where: str = "items", **settings: Any) -> Catalog:
    """A table of items alone, such as new ones for a trained model, with the checks of `from_frames`."""
    checks = TableChecks.parse(settings, "items_from_frame")
    return clean_catalog(as_arrow(items, where), checks.columns, checks, where)


def as_arrow(frame: Any, where: str) -> pa.Table:
    """Anything table-like as an Arrow table, without a copy where the other side allows.

    Raises:
        DataError: this is no table, or a column mixes types.
    """
    if frame is None:
        raise DataError(
            f"the table of {where} is None.",
            where=where,
            fix="llmrec needs both tables: interactions (user_id, item_id, timestamp) and items (item_id, title).",
        )
    try:
        if isinstance(frame, pa.Table):
            return frame
        if type(frame).__module__.partition(".")[0] == "pandas":
            return pa.Table.from_pandas(frame, preserve_index=False)
        if hasattr(frame, "with_format"):  # datasets.Dataset, with its selection applied
            return frame.with_format("arrow")[:]
        if hasattr(frame, "__arrow_c_stream__") or isinstance(frame, Mapping):
            return pa.table(frame)
        if isinstance(frame, list):
            return pa.Table.from_pylist(frame)
    except (pa.ArrowException, UnicodeError) as error:
        raise DataError(
            f"the table cannot be read as columns of one type each: {' '.join(map(str, error.args))}.",
            where=where,
            fix="Give every column one type (ids: all text or all whole numbers) and valid text.",
        ) from None
    raise DataError(
        f"a {type(frame).__name__} is no table.",
        where=where,
        fix="Give a pandas, polars or Arrow table, a datasets.Dataset, a dict of columns or a list of dicts.",
    )
