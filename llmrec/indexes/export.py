"""Write the codes of an index as other projects read them. `published_files` reads the same files.

    format       suffix            an item                                        read by
    lcrec        .json             "0": ["<a_12>", "<b_7>"]                       LC-Rec, LETTER, MiniOneRec
    id2sid       .json             the same                                       MIMIGenRec and GenRec (`id2sid.json`)
    text         .json             "0": "<a_12><b_7>"                             scripts of your own
    sem_ids      .json, .sem_ids   "0": [12, 7]                                   RPG and other work on `genrec`
    openonerec   .json             "0": "<|sid_begin|><s_a_12><s_b_7><|sid_end|>"
                 .parquet          columns `pid`, `sid` (a list of numbers)       OpenOneRec's data scripts
    table        .parquet, .csv    columns `item_id`, `sid` (`<a_12><b_7>`)       llmrec, pandas

No format has a place for level sizes: who reads the file takes the largest number of each level. Items that share a
code share it in the file, and a code that ends earlier is shorter there too.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Literal, get_args

import pyarrow as pa
from pyarrow import csv, parquet

from llmrec import artifact
from llmrec.data.vocabulary import Vocabulary
from llmrec.errors import ArtifactError, DataError, RecipeError, did_you_mean
from llmrec.indexes.base import ItemIndex
from llmrec.indexes.spelling import BEGIN, ENDING, Codes, number_lists, require_letters, token_texts

Format = Literal["lcrec", "id2sid", "text", "sem_ids", "openonerec", "table"]

CHUNK = 2**16
"""Items that are turned into text at once."""


def export_index(index: ItemIndex, items: Vocabulary, path: Path, format: Format) -> None:
    """Write one code an item, in row order; a file that is there already is replaced as a whole.

    Args:
        index: the codes.
        items: the ids of the index's rows, such as `catalog.items`.
        path: the file; its suffix must be one of the format's.
        format: see the table above.

    Raises:
        ArtifactError: the index is one of titles, has more levels than there are letters, or is for other items; or the
            file cannot be written.
        DataError: the suffix is none of the format's.
        RecipeError: the format is not known.
    """
    if format not in get_args(Format):
        raise RecipeError(f"there is no format '{format}'. {did_you_mean(format, get_args(Format))}")
    writers = WRITERS[format]
    if path.suffix not in writers:
        raise DataError(f"{path} is no file of the format {format}.", fix=f"End its name in {' or '.join(writers)}.")
    _check(index, items)
    try:
        with artifact.appears_whole(path) as neighbour:
            writers[path.suffix](index.codes, items, neighbour)
    except OSError as error:
        raise ArtifactError(f"{path} cannot be written ({error}). Choose another name.") from error


def _check(index: ItemIndex, items: Vocabulary) -> None:
    if index.pieces is not None:
        raise ArtifactError(
            "an index of titles cannot be exported: its codes are words of one tokenizer, which no other project "
            "numbers alike. Export an index of another kind, such as rqkmeans."
        )
    require_letters(len(index.level_sizes))
    if not index.is_for(items):
        raise ArtifactError(
            f"the {len(items)} items are not the {len(index)} that this index was built for. Give the catalog of the "
            "same model folder."
        )


Writer = Callable[[Codes, Vocabulary, Path], None]


def _json(values: Callable[[Codes], pa.Array]) -> Writer:
    """A writer of one JSON object, an item a line, so that two exports can be compared line by line.

    Args:
        values: the JSON text of each code.
    """

    def write(codes: Codes, items: Vocabulary, path: Path) -> None:
        with path.open("w", encoding="utf-8") as file:
            file.write("{")
            for start in range(0, len(codes), CHUNK):
                names = map(json.dumps, items.ids.slice(start, CHUNK).to_pylist())
                texts = values(codes[start : start + CHUNK]).to_pylist()
                lines = (f"{name}: {text}" for name, text in zip(names, texts, strict=True))
                file.write(("\n" if start == 0 else ",\n") + ",\n".join(lines))
            file.write("\n}\n")

    return write


def _table(write: Callable[[pa.Table, Path], None]) -> Writer:
    return lambda codes, items, path: write(pa.table({"item_id": items.ids, "sid": token_texts(codes)}), path)


def _pid_table(codes: Codes, items: Vocabulary, path: Path) -> None:
    """Ids are numbers where all of them are, since OpenOneRec looks items up by number."""
    ids = items.ids
    try:
        numbers = ids.cast(pa.int64())
        ids = numbers if numbers.cast(pa.string()).equals(ids) else ids  # "007" is no number: it must keep its zeros
    except pa.ArrowInvalid:
        pass
    parquet.write_table(pa.table({"pid": ids, "sid": number_lists(codes)}), path)


_token_lists = _json(lambda codes: token_texts(codes, '"<', '>"', before="[", between=", ", after="]"))
_text = _json(lambda codes: token_texts(codes, before='"', after='"'))
_numbers = _json(lambda codes: token_texts(codes, "", "", before="[", between=", ", after="]", letters=False))
_marked = _json(lambda codes: token_texts(codes, "<s_", before=f'"{BEGIN}', after=f'{ENDING}"'))

WRITERS: dict[Format, dict[str, Writer]] = {
    "lcrec": {".json": _token_lists},
    "id2sid": {".json": _token_lists},
    "text": {".json": _text},
    "sem_ids": {".json": _numbers, ".sem_ids": _numbers},
    "openonerec": {".json": _marked, ".parquet": _pid_table},
    "table": {".parquet": _table(parquet.write_table), ".csv": _table(csv.write_csv)},
}
