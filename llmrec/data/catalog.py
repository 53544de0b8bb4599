"""What each item says about itself: one row an item, text columns, already cleaned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa

from llmrec.data.filters import Condition, column_of, rows_where
from llmrec.data.vocabulary import Vocabulary
from llmrec.errors import DataError
from llmrec.types import Rows


@dataclass(frozen=True)
class Catalog:
    """The items; row number = item row everywhere in llmrec.

    Args:
        table: `N` rows; `item_id` and `title` (strings) and any further columns of the source.
    """

    table: pa.Table

    def __post_init__(self) -> None:
        for column in ("item_id", "title"):
            if column not in self.table.column_names:
                raise DataError(
                    f"the catalog has no column '{column}' (it has {self.table.column_names}).",
                    fix="Name it in the source's column map.",
                )

    @cached_property
    def items(self) -> Vocabulary:
        return Vocabulary(self.table["item_id"])

    def __len__(self) -> int:
        return self.table.num_rows

    def title(self, row: int) -> str:
        return str(self.table["title"][int(row)].as_py())

    def record(self, row: int) -> dict[str, object]:
        """All columns of one item, for prompts and for the screen."""
        return {name: self.table[name][int(row)].as_py() for name in self.table.column_names}

    def texts(self, fields: Sequence[str] = ("title",), separator: str = ". ") -> list[str]:
        """One text an item, its non-empty fields joined; `N` strings in row order.

        Raises:
            DataError: a field is not a column.
        """
        columns = [column_of(self.table, field).to_pylist() for field in fields]
        return [separator.join(str(v) for v in values if v not in (None, "")) for values in zip(*columns, strict=True)]

    def where(self, condition: Condition) -> Rows:
        """The rows of the items that satisfy a condition, ascending: what `recommend` takes as `candidates`.

        Args:
            condition: `{"brand": "OPI", "in_stock": True}`, where all must hold: an item has the value in that column,
                or one of a list of values; a column of lists contains it; None is an empty cell. Or an expression,
                such as `pyarrow.compute.field("price") < 30`. An empty cell satisfies no comparison.

        Returns:
            `int32[n]`; none where no item fits.

        Raises:
            DataError: a column is unknown, or is compared with a value of another type.
        """
        return rows_where(self.table, condition)

    def take(self, rows: Rows) -> Catalog:
        return Catalog(self.table.take(pa.array(np.asarray(rows))))

    def append(self, items: Catalog) -> Catalog:
        """These items, and others behind them with the same columns; what the others do not say stays empty.

        Raises:
            DataError: an id is there already, or a column has values of another type.
        """
        known = np.flatnonzero(self.items.rows(items.items.ids) >= 0)
        if known.size:
            first = min(items.items[int(row)] for row in known)
            raise DataError(
                f"item '{first}' is in the catalog already ({known.size} such items).", fix="Leave these rows out."
            )
        columns = {}
        for field in self.table.schema:
            more = items.table[field.name] if field.name in items.table.column_names else pa.nulls(len(items))
            try:
                columns[field.name] = more.cast(field.type)
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
                raise DataError(
                    f"the new values are no {field.type} ({error}).", column=field.name, fix="Give the same type."
                ) from error
        return Catalog(pa.concat_tables([self.table, pa.table(columns, schema=self.table.schema)]))
