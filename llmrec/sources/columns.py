"""Find the columns of a table by name, and turn what is in them into ids, times and ratings.

Every check names the row and shows the value; all of it works on whole Arrow columns.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt
from numpy.typing import NDArray

from llmrec.component import Component
from llmrec.errors import DataError, did_you_mean

TIMES = ("timestamp", "position")
TITLES = ("title", "name", "movie_title", "item_title", "product_title", "item_name", "product_name")

_WHOLE = r"^[+-]?\d{1,18}(\.0*)?$"
_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?$"
_WITH_ZONE = r"[T ].*(Z|[+-]\d{2}(:?\d{2})?)$"
_EXACT = 2**53  # above this a float no longer tells one whole number from the next


class Columns(Component):
    """What the columns are called in the tables of the user.

    Args:
        user, item: ids, in the interactions. catalog_item: the item id in the items table, where its name differs.
        time: None takes the first of `timestamp`, `position`.
        rating: None takes `rating` where there is one.
        title: None takes the first of `title`, `name`, `movie_title`, `item_title`, `product_title`, ...
        keep: the further columns of the items table to keep; None keeps all of them.
    """

    user: str = "user_id"
    item: str = "item_id"
    catalog_item: str | None = None
    time: str | None = None
    rating: str | None = None
    title: str | None = None
    keep: tuple[str, ...] | None = None


def find(table: pa.Table, name: str, setting: str, where: str) -> pa.ChunkedArray:
    """The column of this name.

    Raises:
        DataError: the table has no such column, or two; the message lists the columns and the setting that names it.
    """
    if (count := table.column_names.count(name)) == 1:
        return table[name]
    if count > 1:
        raise DataError(f"there are {count} columns named '{name}'.", where=where, fix="Give each column its own name.")
    raise DataError(
        f"there is no column '{name}'; the columns are {table.column_names}.",
        where=where,
        fix=f"{did_you_mean(name, table.column_names)} Name it with columns.{setting}.",
    )


def find_first(table: pa.Table, name: str | None, usual: Sequence[str], setting: str, where: str) -> str:
    """The name the user gave, or the first of the usual names that the table has.

    Raises:
        DataError: there is none.
    """
    name = name or next((n for n in usual if n in table.column_names), usual[0])
    find(table, name, setting, where)
    return name


def as_ids(column: pa.ChunkedArray, name: str, where: str) -> pa.ChunkedArray:
    """External ids as strings; the float 12.0 (an integer column that once held a gap) becomes "12".

    Raises:
        DataError: an id is missing, empty, or not text or a whole number.
    """
    column = _present(_decoded(column), name, where)
    if pt.is_floating(column.type):
        column = _whole(column, name, where)
    if not (pt.is_integer(column.type) or _is_text(column.type)):
        raise DataError(
            f"the ids are of type {column.type}.", where=where, column=name, fix="Use text or whole numbers."
        )
    ids = column.cast(pa.string())
    if (row := _first(pc.equal(ids, ""))) is not None:
        raise DataError("the id is empty.", where=where, row=row, column=name, fix="Give every row an id.")
    return ids


def as_times(column: pa.ChunkedArray, name: str, where: str) -> NDArray[np.int64]:
    """Times as `int64[E]`: whole numbers keep their unit, dates become microseconds since 1970 (UTC).

    Dates may be Arrow dates and timestamps or ISO text; a date without a time zone is taken as UTC.
    The first row decides whether a column of text holds numbers, dates, or dates with a time zone.

    Raises:
        DataError: a time is missing or cannot be read so.
    """
    column = _present(_decoded(column), name, where)
    if _is_text(column.type):
        column = _times_from_text(pc.utf8_trim_whitespace(column), name, where)
    if pt.is_floating(column.type):
        column = _whole(column, name, where)
    if pt.is_date(column.type) or pt.is_timestamp(column.type):
        zone = column.type.tz if pt.is_timestamp(column.type) else None
        column = column.cast(pa.timestamp("us", zone), safe=False)
    elif not pt.is_integer(column.type):
        raise DataError(
            f"the times are of type {column.type}.", where=where, column=name, fix="Use whole numbers or ISO dates."
        )
    return _cast(column, pa.int64(), name, where, "is too large for a time").to_numpy()


def as_ratings(column: pa.ChunkedArray, name: str, where: str) -> NDArray[np.float32]:
    """Ratings as `float32[E]`; NaN where there is none.

    Raises:
        DataError: a rating is not a number.
    """
    numbers = as_numbers(column, name, where)
    return pc.fill_null(numbers, float("nan")).to_numpy().astype(np.float32)


def as_numbers(column: pa.ChunkedArray, name: str, where: str) -> pa.ChunkedArray:
    """A column as float64; null where the text is empty.

    Raises:
        DataError: a value is not a number.
    """
    column = _decoded(column)
    if _is_text(column.type):
        trimmed = pc.utf8_trim_whitespace(column)
        column = pc.if_else(pc.equal(trimmed, ""), pa.scalar(None, trimmed.type), trimmed)
    return _cast(column, pa.float64(), name, where, "is not a number")


def as_texts(column: pa.ChunkedArray) -> pa.ChunkedArray | None:
    """A column of text as strings, lists of text joined by ", "; None where the column holds something else."""
    column = _decoded(column)
    if pt.is_list(column.type) or pt.is_large_list(column.type):
        if not (_is_text(column.type.value_type) or pt.is_null(column.type.value_type)):
            return None
        return pa.chunked_array([_joined(lists) for lists in column.cast(pa.list_(pa.string())).chunks], pa.string())
    return column if _is_text(column.type) else None


def _is_text(kind: pa.DataType) -> bool:
    return bool(pt.is_string(kind) or pt.is_large_string(kind))


def _joined(lists: pa.ListArray) -> pa.StringArray:
    if not lists.flatten().null_count:
        return pc.binary_join(lists, ", ")
    return pa.array([", ".join(filter(None, texts or [])) for texts in lists.to_pylist()], pa.string())


def _decoded(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Categories (pandas, polars) as the values they stand for; string views and empty columns as strings."""
    if pt.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    return column.cast(pa.string()) if pt.is_null(column.type) or pt.is_string_view(column.type) else column


def _first(mask: pa.ChunkedArray) -> int | None:
    row = pc.index(mask, pa.scalar(True)).as_py()
    return None if row < 0 else int(row)


def _present(column: pa.ChunkedArray, name: str, where: str) -> pa.ChunkedArray:
    if (row := _first(column.is_null(nan_is_null=True))) is not None:
        raise DataError(
            "there is no value (null or NaN).", where=where, row=row, column=name, fix="Fill it in or drop the row."
        )
    return column


def _whole(column: pa.ChunkedArray, name: str, where: str) -> pa.ChunkedArray:
    inexact = pc.or_(pc.not_equal(pc.floor(column), column), pc.greater(pc.abs(column), _EXACT))
    if (row := _first(inexact)) is not None:
        raise DataError(
            f"{column[row].as_py()!r} is not a whole number that a float can hold exactly.",
            where=where,
            row=row,
            column=name,
            fix="Store the column as integers or text (a time with fractions: as integer milliseconds).",
        )
    return column.cast(pa.int64())


def _times_from_text(texts: pa.ChunkedArray, name: str, where: str) -> pa.ChunkedArray:
    first = texts.slice(0, 1)
    if not len(texts) or pc.all(pc.match_substring_regex(texts, _WHOLE)).as_py():
        return pc.replace_substring_regex(texts, r"^\+|\.0*$", "").cast(pa.int64())
    if pc.match_substring_regex(first, _NUMBER)[0].as_py():
        return _cast(texts, pa.float64(), name, where, "is not a number, as the first time is")
    zone = "UTC" if pc.match_substring_regex(first, _WITH_ZONE)[0].as_py() else None
    complaint = f"is not an ISO date {'with' if zone else 'without'} a time zone, as the first time is"
    if _casts(first, pa.timestamp("us", zone)) is None:
        complaint = "is neither a whole number nor an ISO date (2024-05-31 or 2024-05-31T18:00:00Z)"
    return _cast(texts, pa.timestamp("us", zone), name, where, complaint)


def _casts(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray | None:
    try:
        return column.cast(kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return None


def _cast(column: pa.ChunkedArray, kind: pa.DataType, name: str, where: str, complaint: str) -> pa.ChunkedArray:
    """Cast, or name the first value that does not cast (found by halving, so also quickly in 100 million rows)."""
    if (cast := _casts(column, kind)) is not None:
        return cast
    low, high = 0, len(column)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _casts(column.slice(low, middle - low), kind) is None else (middle, high)
    raise DataError(
        f"{column[low].as_py()!r} {complaint}.", where=where, row=low, column=name, fix="Correct it or drop the row."
    )
