"""Codes that other people published, taken as they are, for comparison with their numbers.

Two forms are read: a table (`.parquet` or `.csv`) with the columns `item_id`, `sid` and, where it holds several sets
of codes, `source`; and the `NAME.index.json` of LC-Rec and its descendants (`{"0": ["<a_12>", "<b_7>"], ...}`).
Published codes may collide; such items stay together in one bucket, and the provenance counts them.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from llmrec.component import Component
from llmrec.data.catalog import Catalog
from llmrec.data.interactions import Interactions
from llmrec.data.vocabulary import Vocabulary
from llmrec.errors import DataError, RecipeError
from llmrec.indexes.base import ItemIndex
from llmrec.indexes.provenance import provenance_of
from llmrec.indexes.published_files import read_published

WHOLE_CODE = r"^(<[a-z]_\d{1,9}>)+$"
ONE_TOKEN = r"<([a-z])_(\d+)>"


class PublishedIndex(Component):
    """The codes of a file, one for every catalog item.

    Args:
        path: a `.parquet` or `.csv` table, or a `.json` index.
        source: which set of codes, where the table's column `source` names several.
    """

    path: Path
    source: str | None = None

    def build(self, catalog: Catalog, train: Interactions) -> ItemIndex:
        """The file's code of every catalog row; `train` is not used.

        Level sizes are the largest value of each level in the file, plus one. Items of the file that the catalog
        lacks are left out.

        Raises:
            DataError: the file cannot be read, a catalog item is missing from it, or a code is malformed.
        """
        table = read_published(self.path, self.source)
        published = parse_codes(table["sid"], table["item_id"], where=str(self.path))
        try:
            rows = Vocabulary(table["item_id"]).rows(catalog.items.ids)
        except DataError as error:
            where = str(self.path)
            raise DataError(error.problem, fix="Keep one code an item.", where=where, column="item_id") from None
        if (missing := np.flatnonzero(rows < 0)).size:
            raise DataError(
                f"no code for item '{catalog.items[int(missing[0])]}' ({missing.size} of {len(catalog)} catalog items "
                f"are missing; the file has ids such as '{table['item_id'][0].as_py()}').",
                where=str(self.path),
                column="item_id",
                fix="Check that both use the same ids, or drop these items from the catalog.",
            )
        codes, sizes = published[rows], tuple(int(size) for size in published.max(axis=0) + 1)
        provenance = provenance_of(
            "published",
            {**self.settings(), "path": self.path.name},  # the hash says which file, on any machine
            catalog.items,
            codes,
            sizes,
            resolved_by="bucket",
            file_sha256=self.fingerprint(),
        )
        return ItemIndex(codes, sizes, provenance)

    def add(self, index: ItemIndex, catalog: Catalog) -> ItemIndex:
        """Refused: only the people who made the codes know where a new item belongs.

        Raises:
            RecipeError: always.
        """
        raise RecipeError(
            "an index of kind 'published' cannot place new items: the file does not say how its codes were made. "
            "Build an index of another kind, such as rqkmeans."
        )

    def fingerprint(self) -> str:
        """SHA-256 of the file.

        Raises:
            DataError: it cannot be read.
        """
        try:
            return hashlib.sha256(self.path.read_bytes()).hexdigest()
        except OSError as error:
            raise DataError(f"it cannot be read ({error}).", where=str(self.path), fix="Check index.path.") from error


def parse_codes(codes: pa.ChunkedArray, item_ids: pa.ChunkedArray, where: str) -> NDArray[np.int32]:
    """The numbers in `<a_12><b_7>...`, `int32[N, L]`.

    Args:
        codes: `N` strings.
        item_ids: `N` ids, for messages.
        where: the file, for messages.

    Raises:
        DataError: a code is no run of tokens, or has another number or order of levels than the first.
    """

    def refuse(wrong: pa.ChunkedArray, expected: str) -> None:
        if bad := np.flatnonzero(wrong.to_numpy(zero_copy_only=False)).tolist():
            raise DataError(
                f"item '{item_ids[bad[0]].as_py()}' has the code {codes[bad[0]].as_py()!r} ({len(bad)} such codes); "
                f"expected {expected}.",
                where=where,
                row=bad[0],
                column="sid",
                fix="Correct or drop these rows.",
            )

    well_formed = pc.fill_null(pc.match_substring_regex(codes, WHOLE_CODE), False)
    refuse(pc.invert(well_formed), "tokens such as '<a_12><b_7>' and nothing else")
    letters = pc.replace_substring_regex(codes, ONE_TOKEN, r"\1")
    levels = len(letters[0].as_py())
    alphabet = "abcdefghijklmnopqrstuvwxyz"[:levels]
    refuse(pc.not_equal(letters, alphabet), f"{levels} levels, {', '.join(alphabet)}, in this order")
    spaced = pc.utf8_trim_whitespace(pc.replace_substring_regex(codes, ONE_TOKEN, r"\2 "))
    numbers = pc.list_flatten(pc.split_pattern(spaced, " ")).cast(pa.int32())
    return np.asarray(numbers.to_numpy(), np.int32).reshape(-1, levels)
