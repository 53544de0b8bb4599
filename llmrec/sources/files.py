"""Read tables from files, all text columns as text, and fingerprint the files.

CSV and TSV columns are read as strings, never guessed: an id `007` stays `007`.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Sequence
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
    require(path)
    if path.is_dir() or path.suffix in (".parquet", ".pq"):
        try:
            return pq.read_table(path)
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"this is no parquet table ({error}).", where=str(path), fix="Write it again.") from None
    kind = next((s for s in path.suffixes if s in (".csv", ".tsv", ".tab", ".txt")), None)
    if kind is None:
        raise DataError(
            f"the suffix '{path.suffix}' is not known.", where=str(path), fix=f"Use one of {', '.join(SUFFIXES)}."
        )
    return read_delimited(path, "," if kind == ".csv" else "\t", encoding=encoding)


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
    try:
        columns = names or csv.open_csv(path, read_options=read, parse_options=parse).schema.names
        convert = csv.ConvertOptions(column_types=dict.fromkeys(columns, pa.string()))  # strings are never null
        return csv.read_csv(path, read_options=read, parse_options=parse, convert_options=convert)
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
