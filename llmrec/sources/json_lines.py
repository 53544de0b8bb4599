"""Files of one record a line, compressed or not, read as a stream: JSON, or Python dicts as older files have them.

Reviews hold long texts that nobody asks for: `read_events` parses the named fields alone, in C++, a block at a time.
Records of items are irregular (a list here, a text there), so `iter_records` gives them as Python reads them.
"""

from __future__ import annotations

import ast
import io
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import json as arrow_json
from tqdm import tqdm

from llmrec.errors import DataError
from llmrec.sources.files import require

_BLOCK = 1 << 24  # bytes; no line may be longer
_SHOWN = 1 << 28  # bytes; smaller files are read without a bar
_FIX = "Download the file again, or give the one that its owner publishes."


def read_events(path: Path, fields: Mapping[str, pa.DataType]) -> Iterator[pa.RecordBatch]:
    """These fields of a file of JSON lines, block by block; null where a line lacks one.

    Raises:
        DataError: the file is missing or damaged, or a field is of another type.
    """
    options = arrow_json.ParseOptions(explicit_schema=pa.schema(fields.items()), unexpected_field_behavior="ignore")
    with _opened(path) as stream:
        try:
            blocks = arrow_json.open_json(
                stream, read_options=arrow_json.ReadOptions(block_size=_BLOCK), parse_options=options
            )
            yield from blocks
        except pa.ArrowException as error:
            raise DataError(f"a line cannot be read: {error}.", where=str(path), fix=_FIX) from None


def iter_records(path: Path) -> Iterator[dict[str, Any]]:
    """The records of a file, each as a dict; the first line says whether they are JSON or Python dicts.

    Nothing in a line is executed: dicts are read as literals.

    Raises:
        DataError: the file is missing or damaged; it names the line.
    """
    read: Callable[[str], Any] | None = None
    with _opened(path) as raw, io.TextIOWrapper(io.BufferedReader(raw, _BLOCK), encoding="utf8") as stream:
        try:
            for number, line in enumerate(stream):
                if not line.strip():
                    continue
                if read is None:
                    read = json.loads if line.lstrip().startswith('{"') else ast.literal_eval
                try:
                    record = read(line)
                except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
                    raise DataError(f"the line is no record: {error}.", where=str(path), row=number, fix=_FIX) from None
                if not isinstance(record, dict):
                    raise DataError("the line is no record.", where=str(path), row=number, fix=_FIX)
                yield record
        except (OSError, UnicodeDecodeError, EOFError) as error:
            raise DataError(f"the file is damaged: {error}.", where=str(path), fix=_FIX) from None


def _opened(path: Path) -> Any:
    """The uncompressed bytes, with a bar over those that are read from the disk."""
    size = require(path).stat().st_size
    bar = tqdm(total=size, desc=path.name, unit="B", unit_scale=True, leave=False, disable=size < _SHOWN)
    source = pa.PythonFile(_Counted(path, bar), mode="r")
    return pa.CompressedInputStream(source, "gzip") if path.suffix == ".gz" else source


class _Counted(io.FileIO):
    """A file that moves a bar on as it is read."""

    def __init__(self, path: Path, bar: Any) -> None:
        super().__init__(path)
        self.bar = bar

    def read(self, size: int | None = -1) -> bytes:
        found = super().read(-1 if size is None else size) or b""
        self.bar.update(len(found))
        return found

    def close(self) -> None:
        self.bar.close()
        super().close()
