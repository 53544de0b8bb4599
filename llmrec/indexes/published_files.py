"""Read a file of published codes into one table of `item_id` and `sid`, both strings."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv, parquet

from llmrec.errors import DataError, did_you_mean


def read_published(path: Path, source: str | None) -> pa.Table:
    """The rows of one set of codes.

    Args:
        path: `.parquet`, `.csv` or `.json`.
        source: the value of the column `source` to keep; None for all, which a
            file with one set allows.

    Raises:
        DataError: the file is missing, unreadable, empty, or holds several sets and `source` names none of them.
    """
    readers = {".parquet": parquet.read_table, ".csv": _read_csv, ".json": _read_json}
    if path.suffix not in readers:
        raise DataError(f"{path} is no file of codes.", fix=f"Give a file that ends in {', '.join(readers)}.")
    if not path.is_file():
        raise DataError(f"{path} does not exist.", fix="Check 'index.path'.")
    try:
        table = readers[path.suffix](path)
    except (pa.ArrowInvalid, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"the file cannot be read ({error}).", where=str(path), fix="Download it again.") from error
    for column in ("item_id", "sid"):
        if column not in table.column_names:
            raise DataError(
                f"there is no column '{column}'.", where=str(path), fix=did_you_mean(column, table.column_names)
            )
    table = _one_source(table, path, source)
    if table.num_rows == 0:
        raise DataError("the file holds no code.", where=str(path), fix="Give one code an item.")
    return pa.table({name: table[name].cast(pa.string()) for name in ("item_id", "sid")})


def _one_source(table: pa.Table, path: Path, source: str | None) -> pa.Table:
    if "source" not in table.column_names:
        if source is None:
            return table
        raise DataError(f"there is no column 'source' to find '{source}' in.", where=str(path), fix="Leave it out.")
    names = sorted(str(name) for name in pc.unique(table["source"]).to_pylist())
    if source is None:
        if len(names) <= 1:
            return table
        raise DataError(
            f"the file holds {len(names)} sets of codes.", where=str(path), fix=f"Set source to one of: {names}."
        )
    if source not in names:
        raise DataError(f"there are no codes of source '{source}'.", where=str(path), fix=did_you_mean(source, names))
    return table.filter(pc.equal(table["source"].cast(pa.string()), source))


def _read_csv(path: Path) -> pa.Table:
    """All columns as text: an id such as `007` must keep its zeros."""
    names = csv.open_csv(path).schema.names
    return csv.read_csv(path, convert_options=csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string())))


def _read_json(path: Path) -> pa.Table:
    """`{"0": ["<a_12>", "<b_7>"], ...}` as a table."""
    content = json.loads(path.read_text())
    if not isinstance(content, dict):
        raise DataError(
            f"the file holds a {type(content).__name__}.",
            where=str(path),
            fix='Expected an object such as {"0": ["<a_12>", "<b_7>"]}.',
        )
    for item_id, tokens in content.items():
        if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
            raise DataError(
                f"item '{item_id}' has {tokens!r}.",
                where=str(path),
                fix='Expected a list of tokens such as ["<a_12>", "<b_7>"].',
            )
    columns = {"item_id": list(content), "sid": ["".join(tokens) for tokens in content.values()]}
    return pa.table(columns, schema=pa.schema([("item_id", pa.string()), ("sid", pa.string())]))
