"""Read tables from files, all text columns as text, and fingerprint the files.

CSV and TSV columns are read as strings, never guessed: an id `007` stays `007`.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq
from tqdm import tqdm

from llmrec.errors import DataError, did_you_mean

SUFFIXES = (".parquet", ".csv", ".tsv", ".csv.gz", ".tsv.gz")
_LONGEST_LINE = 1 << 24  # bytes; pyarrow reads a CSV in blocks, and no row may be longer than one


def read_table(path: Path, encoding: str = "utf8") -> pa.Table:
    """A parquet file (or a folder of them), or a CSV / TSV file, compressed or not, told apart by the suffix.

    Raises:
        DataError: the file is missing, has an unknown suffix or is damaged.
    """
    if _is_parquet(require(path)):
        with _parquet_errors(path):
            return pq.read_table(path)
    return read_delimited(path, _delimiter(path), encoding=encoding)


def iter_batches(path: Path, columns: Sequence[str], rows: int) -> Iterator[pa.RecordBatch]:
    """Columns of what `read_table` reads, a part at a time, so that the table need not fit into memory.

    Args:
        path: the file or folder. columns: those wanted, in this order. rows: at most so many in a batch.

    Raises:
        DataError: as `read_table`, or a column is missing.
    """
    if _is_parquet(require(path)):
        for file in _parquet_files(path):
            with _parquet_errors(file), _open_parquet(file, columns) as opened:
                for batch in opened.iter_batches(rows, columns=list(columns)):
                    yield batch.select(list(columns))
        return
    parse = csv.ParseOptions(delimiter=_delimiter(path), newlines_in_values=True)
    read = csv.ReadOptions(block_size=_LONGEST_LINE)
    with _text_errors(path):
        require_columns(csv.open_csv(path, read_options=read, parse_options=parse).schema.names, columns, str(path))
        convert = csv.ConvertOptions(column_types=dict.fromkeys(columns, pa.string()), include_columns=list(columns))
        for block in csv.open_csv(path, read_options=read, parse_options=parse, convert_options=convert):
            yield from (block.slice(start, rows) for start in range(0, len(block), rows))


def count_rows(path: Path, columns: Sequence[str]) -> int:
    """The rows that `iter_batches` gives: parquet files say their number, a text is read through once.

    Raises:
        DataError: as `iter_batches`.
    """
    if not _is_parquet(require(path)):
        return sum(len(batch) for batch in iter_batches(path, columns, _LONGEST_LINE))
    total = 0
    for file in _parquet_files(path):
        with _parquet_errors(file), _open_parquet(file, columns) as opened:
            total += opened.metadata.num_rows
    return total


def require_columns(names: Sequence[str], wanted: Sequence[str], where: str) -> None:
    """Check that all wanted columns are among these.

    Raises:
        DataError: one is not; the message names the closest.
    """
    for name in wanted:
        if name not in names:
            raise DataError(f"there is no column '{name}'.", where=where, fix=did_you_mean(name, names))


def _is_parquet(path: Path) -> bool:
    return path.is_dir() or path.suffix in (".parquet", ".pq")


def _parquet_files(path: Path) -> list[Path]:
    """The file, or those of a folder in the order of their names; like pyarrow, without hidden and `_` names."""
    found = [file for file in _files(path) if file.suffix in (".parquet", ".pq") and file.name[0] not in "._"]
    if not found:
        raise DataError("there is no parquet file in this folder.", where=str(path), fix="Name another folder or file.")
    return found


def _open_parquet(file: Path, columns: Sequence[str]) -> pq.ParquetFile:
    # Without a buffer a whole row group is held, and a file may be a single one.
    opened = pq.ParquetFile(file, buffer_size=1 << 16, pre_buffer=False)
    require_columns(opened.schema_arrow.names, columns, str(file))
    return opened


def _delimiter(path: Path) -> str:
    kind = next((s for s in path.suffixes if s in (".csv", ".tsv", ".tab", ".txt")), None)
    if kind is None:
        raise DataError(
            f"the suffix '{path.suffix}' is not known.", where=str(path), fix=f"Use one of {', '.join(SUFFIXES)}."
        )
    return "," if kind == ".csv" else "\t"


def read_delimited(
    path: Path, delimiter: str, *, names: Sequence[str] | None = None, quoted: bool = True, encoding: str = "utf8"
) -> pa.Table:
    """A text table with every column as strings.

    Args:
        path: the file.
        delimiter: one character.
        names: the columns, where the file has no header line; None reads the header.
        quoted: whether `"` quotes a value (which may then hold delimiters and line ends).
        encoding: of the text.

    Raises:
        DataError: the file is empty, not in this encoding, or a line has too many or too few values.
    """
    parse = csv.ParseOptions(delimiter=delimiter, quote_char='"' if quoted else False, newlines_in_values=quoted)
    read = csv.ReadOptions(column_names=names, encoding=encoding, block_size=_LONGEST_LINE)
    with _text_errors(path):
        columns = names or csv.open_csv(path, read_options=read, parse_options=parse).schema.names
        convert = csv.ConvertOptions(column_types=dict.fromkeys(columns, pa.string()))  # strings are never null
        return csv.read_csv(path, read_options=read, parse_options=parse, convert_options=convert)


@contextmanager
def _parquet_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"this is no parquet table ({error}).", where=str(path), fix="Write it again.") from None


@contextmanager
def _text_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, UnicodeError) as error:
        if "straddling" in str(error):
            raise _endless(path) from None
        raise DataError(
            f"the text table cannot be read: {' '.join(str(error).split())}",
            where=str(path),
            fix="Check that every line has as many values as the header, that a value with a delimiter, a quote or a "
            "line end is quoted, and that the file is not empty; for a file that is not UTF-8 name its encoding.",
        ) from None


def _endless(path: Path) -> DataError:
    """What to say of a row longer than a block: which line it is, or that a quote is never closed."""
    with io.BufferedReader(pa.input_stream(path, compression="detect")) as stream:
        number = 0
        while line := stream.readline(_LONGEST_LINE + 1):
            number += 1
            if len(line) > _LONGEST_LINE:
                return DataError(
                    f"line {number} is longer than {_LONGEST_LINE:,} bytes.", where=str(path), fix="Shorten its texts."
                )
    return DataError(
        f"a row is longer than {_LONGEST_LINE:,} bytes, so a quote that opens a value is never closed.",
        where=str(path),
        fix='Write a quote inside a value twice ("").',
    )


def require(path: Path) -> Path:
    """The path, if there is something there.

    Raises:
        DataError: nothing there; the message names the closest file of the folder, or what it holds.
    """
    if path.exists():
        return path
    folder = path.parent
    if not folder.is_dir():
        raise DataError("there is no such folder.", where=str(folder), fix="Check the path.")
    found = sorted(p.name for p in folder.iterdir())[:50]
    fix = did_you_mean(path.name, found) if found else "The folder is empty."
    raise DataError("there is no such file.", where=str(path), fix=fix)


def digest(paths: Iterable[Path]) -> str:
    """SHA-256 over the contents of the files (of a folder: all files in it, by name), 64 hexadecimal digits."""
    files = [file for path in paths for file in _files(require(path))]
    total = hashlib.sha256()
    for file in tqdm(files, "hashing the data", leave=False, disable=sum(f.stat().st_size for f in files) < 1e9):
        with file.open("rb") as stream:
            total.update(hashlib.file_digest(stream, "sha256").digest())
    return total.hexdigest()


def _files(path: Path) -> list[Path]:
    return sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
