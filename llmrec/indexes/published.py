"""Codes that other people published, taken as they are, for comparison with their numbers.

Which files can be read says `published_files`; `export` writes the same ones. Published codes may collide; such items
stay together in one bucket, and the provenance counts them.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from llmrec.component import Component
from llmrec.data.catalog import Catalog
from llmrec.data.interactions import Interactions
from llmrec.data.vocabulary import Vocabulary
from llmrec.errors import DataError, RecipeError
from llmrec.indexes.base import ItemIndex
from llmrec.indexes.files import file_size, most_tokens
from llmrec.indexes.numbering import sizes_of
from llmrec.indexes.provenance import provenance_of
from llmrec.indexes.published_files import read_published
from llmrec.indexes.spelling import LETTERS, Spelled


class PublishedIndex(Component):
    """The codes of a file, one for every catalog item.

    Args:
        path: a `.parquet` or `.csv` table, or a `.json` or `.sem_ids` index.
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
        published = Spelled(table["sid"], table["item_id"], where=str(self.path)).parse()
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
        codes, sizes = published[rows], sizes_of(published)
        self._check_sizes(sizes, len(codes))
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
            file_size(self.path)  # refuses a pipe, which would never end
            with self.path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise DataError(f"it cannot be read ({error}).", where=str(self.path), fix="Check index.path.") from error

    def _check_sizes(self, sizes: tuple[int, ...], items: int) -> None:
        if sum(sizes) > (room := most_tokens(items)):
            largest = max(range(len(sizes)), key=sizes.__getitem__)
            raise DataError(
                f"the largest number of level {LETTERS[largest]} is {sizes[largest] - 1}. Every number up to it "
                f"becomes a token of the model, {sum(sizes)} on all levels; {items} items may have {room}.",
                where=str(self.path),
                column="sid",
                fix="Number the codes of each level from 0 on, without gaps.",
            )
