"""Read a file of published codes into one table of `item_id` and `sid`. The writers of these forms are in `export`.

What a file holds is seen from its content:

    .json, .sem_ids    {"0": ["<a_12>", "<b_7>"], ...}   LC-Rec, LETTER, MiniOneRec (`NAME.index.json`); `id2sid.json`
                       {"0": "<a_12><b_7>", ...}         one text an item, in any spelling that `spelling` knows
                       {"0": [12, 7], ...}               `.sem_ids`
    .parquet, .csv     columns `item_id`, `sid` and perhaps `source`; OpenOneRec calls the ids `pid`, and its `sid` are
                       lists of numbers
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv, parquet

from llmrec.errors import DataError, did_you_mean
from llmrec.indexes.files import file_size, read_json
from llmrec.indexes.spelling import MOST_CODE

MOST_JSON_BYTES = 2**31
"""A million items of four levels are 54 MB, and reading them takes 700 MB of memory: larger catalogs want a table."""

MOST_ROWS_A_BYTE, FREE_ROWS = 64, 2**20
"""Every row has another id, so a parquet file of few bytes that claims many rows is damaged or a trap."""

MOST_COMPRESSION, FREE_BYTES = 1000, 2**28
"""So many times its bytes a parquet file may unpack to; ids and codes do not repeat a thousand times."""

LISTS = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)

JSON_FORMS = '{"0": ["<a_12>", "<b_7>"]}, {"0": "<a_12><b_7>"} or {"0": [12, 7]}, numbers from 0 on'


def read_published(path: Path, source: str | None) -> pa.Table:
    """The rows of one set of codes: `item_id` as text, `sid` as text or as a list of numbers.

    Args:
        path: `.parquet`, `.csv`, `.json` or `.sem_ids`.
        source: the value of the column `source` to keep; None for all, which a file with one set allows.

    Raises:
        DataError: the file is missing, unreadable, empty, or holds several sets and `source` names none of them.
    """
    readers = {".parquet": _read_parquet, ".csv": _read_csv, ".json": _read_json, ".sem_ids": _read_json}
    if path.suffix not in readers:
        raise DataError(f"{path} is no file of codes.", fix=f"Give a file that ends in {', '.join(readers)}.")
    if not path.is_file():
        raise DataError(
            f"{path} {'is no ordinary file' if path.exists() else 'does not exist'}.", fix="Check 'index.path'."
        )
    try:
        table = _as_text(readers[path.suffix](path), path)
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        raise DataError(f"the file cannot be read ({error}).", where=str(path), fix="Download it again.") from error
    table = _one_source(table, path, source)
    if table.num_rows == 0:
        raise DataError("the file holds no code.", where=str(path), fix="Give one code an item.")
    return table.select(["item_id", "sid"])


def _as_text(table: pa.Table, path: Path) -> pa.Table:
    """Ids, texts and sources as strings; lists stay."""
    columns = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        if name == "sid" and any(is_kind(column.type) for is_kind in LISTS):
            columns[name] = column.cast(pa.list_(column.type.value_type))
        elif pa.types.is_nested(column.type) or pa.types.is_floating(column.type) or pa.types.is_boolean(column.type):
            raise DataError(
                f"the column holds values of type {column.type}.",
                where=str(path),
                column=name,
                fix="Write them as text or as whole numbers.",
            )
        else:
            columns[name] = column.cast(pa.string())
        columns[name].validate(full=True)  # a damaged file may hold bytes that are no text
    return pa.table(columns)


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
            f"the file holds {len(names)} sets of codes.", where=str(path), fix=f"Set source to one of: {names[:20]}."
        )
    if source not in names:
        raise DataError(f"there are no codes of source '{source}'.", where=str(path), fix=did_you_mean(source, names))
    return table.filter(pc.equal(table["source"], source))


def _columns(names: Sequence[str], path: Path) -> list[str]:
    """The names in the file of `item_id`, `sid` and, where there is one, `source`."""
    ids = "pid" if "pid" in names and "item_id" not in names else "item_id"
    for column in (ids, "sid"):
        if column not in names:
            raise DataError(f"there is no column '{column}'.", where=str(path), fix=did_you_mean(column, names))
    wanted = [ids, "sid", *(["source"] if "source" in names else [])]
    for column in wanted:
        if (count := list(names).count(column)) > 1:
            raise DataError(f"{count} columns are named '{column}'.", where=str(path), fix="Keep one of them.")
    return wanted


def _read_parquet(path: Path) -> pa.Table:
    size = file_size(path)
    with parquet.ParquetFile(path) as file:
        wanted = _columns(file.schema_arrow.names, path)
        groups = [file.metadata.row_group(number) for number in range(file.metadata.num_row_groups)]
        rows, content = file.metadata.num_rows, sum(group.total_byte_size for group in groups)
        if rows > max(FREE_ROWS, MOST_ROWS_A_BYTE * size) or content > max(FREE_BYTES, MOST_COMPRESSION * size):
            raise DataError(
                f"{size} bytes claim to hold {rows} rows of {content} bytes.", where=str(path), fix="Download it again."
            )
        return file.read(columns=wanted).select(wanted).rename_columns(["item_id", *wanted[1:]])


def _read_csv(path: Path) -> pa.Table:
    """All columns as text: an id such as `007` must keep its zeros, and may hold a line break."""
    parsing = csv.ParseOptions(newlines_in_values=True)
    with csv.open_csv(path, parse_options=parsing) as file:
        wanted = _columns(file.schema.names, path)
    types = csv.ConvertOptions(column_types=dict.fromkeys(wanted, pa.string()), include_columns=wanted)
    table = csv.read_csv(path, parse_options=parsing, convert_options=types)
    return table.rename_columns(["item_id", *wanted[1:]])


class _Members(list[tuple[str, Any]]):
    """The members of a JSON object; a dictionary would drop all but the last of equal names."""


def _read_json(path: Path) -> pa.Table:
    content = read_json(path, MOST_JSON_BYTES, _Members)
    if not isinstance(content, _Members):
        raise DataError(
            f"the file holds a {type(content).__name__}.",
            where=str(path),
            fix=f"Expected an object such as {JSON_FORMS}.",
        )
    form = _form_of(content[0][1]) if content else str
    for item_id, code in content:
        if _form_of(code) is not form or form is None:
            shown = repr(code[:10] if isinstance(code, list) else code)[:80]
            raise DataError(
                f"item '{item_id}' has {shown}.", where=str(path), fix=f"Expected the same for all items: {JSON_FORMS}."
            )
    codes = [code for _, code in content]
    if form is list:
        codes = [" ".join(code) for code in codes]
    kind = pa.list_(pa.int64()) if form is int else pa.string()
    return pa.table({"item_id": pa.array([name for name, _ in content], pa.string()), "sid": pa.array(codes, kind)})


def _form_of(code: Any) -> type | None:
    """`str` for a text, `list` for a list of texts, `int` for one of numbers that may be codes, else None."""
    if type(code) is str:
        return str
    if type(code) is not list or not code:
        return None
    if all(type(part) is str for part in code):
        return list
    return int if all(type(part) is int and 0 <= part <= MOST_CODE for part in code) else None
