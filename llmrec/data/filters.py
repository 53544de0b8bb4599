"""Which rows of a table a condition leaves: `{"brand": "OPI", "in_stock": True}`, or an Arrow expression.

What a table does not say satisfies nothing: an empty price is neither below 30 nor at least 30.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt
from numpy.typing import NDArray
from pyarrow import acero

from llmrec.errors import DataError, did_you_mean
from llmrec.types import Rows

Condition: TypeAlias = Mapping[str, Any] | pc.Expression
"""A value, or a list of which any will do, by the name of its column; or a `pyarrow.compute.Expression`."""

ANY_OF = (list, tuple, set, frozenset, np.ndarray)


def rows_where(table: pa.Table, condition: Condition) -> Rows:
    """The rows that satisfy the condition, ascending; see `Catalog.where`.

    Raises:
        DataError: a column is unknown, or is compared with a value of another type.
    """
    if isinstance(condition, pc.Expression):
        return _where(_evaluated(table, condition))
    if not isinstance(condition, Mapping):
        raise DataError(
            f"a {type(condition).__name__} is no condition.",
            fix="Give {'brand': 'OPI'}, or an expression such as pyarrow.compute.field('price') < 30.",
        )
    keep = np.ones(table.num_rows, bool)
    for name, wanted in condition.items():
        keep &= _has(column_of(table, name), name, list(wanted) if isinstance(wanted, ANY_OF) else [wanted])
    return _where(keep)


def read_condition(table: pa.Table, text: str) -> dict[str, Any]:
    """A condition as it is typed, `COLUMN=VALUE`; all behind the first `=` is the value, commas too.

    Raises:
        DataError: there is no `=`, no such column, or the value cannot be read as one of the column.
    """
    name, equals, value = text.partition("=")
    if not equals:
        raise DataError(f"'{text}' is no condition.", fix="Write COLUMN=VALUE, such as brand=OPI.")
    column = column_of(table, name)
    try:
        return {name: pa.scalar(value).cast(_value_type(column.type))}
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise _wrong_type(column, name, repr(value)) from None


def column_of(table: pa.Table, name: str) -> pa.ChunkedArray:
    """A column by its name.

    Raises:
        DataError: there is none.
    """
    if name not in table.column_names:
        raise DataError(f"the catalog has no column '{name}'.", fix=did_you_mean(str(name), table.column_names))
    return table[name]


def _has(column: pa.ChunkedArray, name: str, wanted: list[Any]) -> NDArray[np.bool_]:
    """Which rows have one of the values, or a list that holds one; None stands for rows that say nothing."""
    found = np.zeros(len(column), bool)
    kind = _value_type(column.type)
    values = pa.array([_fitting(value, column, name) for value in wanted if value is not None], kind)
    whole = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
    members = pc.list_flatten(whole) if _is_list(whole.type) else whole
    try:
        hits = np.asarray(pc.is_in(members.cast(kind), value_set=values))
    except pa.ArrowNotImplementedError:
        raise DataError(
            f"values of type {kind} cannot be compared.", column=name, fix="Give a pyarrow.compute.Expression."
        ) from None
    if _is_list(whole.type):
        found[np.asarray(pc.list_parent_indices(whole))[hits]] = True
    else:
        found |= hits
    if any(value is None for value in wanted):
        found |= np.asarray(whole.is_null())
    return found


def _fitting(value: Any, column: pa.ChunkedArray, name: str) -> pa.Scalar:
    """The value in the column's type, without the conversions by which Arrow would make 3 of 3.5 and 1 of True."""
    kind = _value_type(column.type)
    if isinstance(value, pa.Scalar) and value.type == kind:
        return value
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, float) and value.is_integer() and pt.is_integer(kind):
        value = int(value)
    part_of_a_number = isinstance(value, float) and pt.is_integer(kind)
    if part_of_a_number or isinstance(value, bool) != pt.is_boolean(kind):
        raise _wrong_type(column, name, f"{reprlib.repr(value)} ({type(value).__name__})")
    try:
        return pa.scalar(value, kind)
    except (pa.ArrowException, OverflowError, TypeError, ValueError):
        raise _wrong_type(column, name, f"{reprlib.repr(value)} ({type(value).__name__})") from None


def _wrong_type(column: pa.ChunkedArray, name: str, value: str) -> DataError:
    examples = pc.drop_null(column.slice(0, 1000))
    example = f", such as {examples[0].as_py()!r}" if len(examples) else ""
    return DataError(
        f"it holds values of type {_value_type(column.type)}, and {value} is none.",
        column=name,
        fix=f"Compare it with a value of that type{example}.",
    )


def _evaluated(table: pa.Table, condition: pc.Expression) -> NDArray[np.bool_]:
    """What an expression says of every row; null is no."""
    steps = [
        acero.Declaration("table_source", acero.TableSourceNodeOptions(table)),
        acero.Declaration("project", acero.ProjectNodeOptions([condition], ["keep"])),
    ]
    try:
        keep = acero.Declaration.from_sequence(steps).to_table(use_threads=False)["keep"]  # threads may reorder rows
    except pa.ArrowException as error:
        if unknown := re.search(r"FieldRef\.Name\((.*?)\) in", str(error)):
            column_of(table, unknown[1])
        raise DataError(
            f"the condition {condition} cannot be evaluated ({str(error).splitlines()[0]}).",
            fix="Compare a column with values of its own type; the columns are "
            f"{', '.join(f'{field.name} ({field.type})' for field in table.schema)}.",
        ) from None
    if not pt.is_boolean(keep.type):
        raise DataError(
            f"the condition {condition} gives {keep.type}, not true or false.", fix="Compare it with a value."
        )
    return np.asarray(pc.fill_null(keep, False))


def _where(keep: NDArray[np.bool_]) -> Rows:
    return np.flatnonzero(keep).astype(np.int32)


def _is_list(kind: pa.DataType) -> bool:
    return bool(pt.is_list(kind) or pt.is_large_list(kind))


def _value_type(kind: pa.DataType) -> pa.DataType:
    """The type of a single value, in a list or in a dictionary too."""
    while _is_list(kind) or pt.is_dictionary(kind):
        kind = kind.value_type
    return kind
