"""Two tables of the Hugging Face Hub, or of anything that `datasets` loads, by name and column map.

    data:
      kind: hub
      interactions: {name: user/shop, config: events, split: train}
      items: {name: user/shop, config: items, split: train}
      columns: {user: customer, item: sku, time: bought_at}

Tables are memory-mapped by `datasets`; the columns that are named pass through memory.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from llmrec.component import Component
from llmrec.errors import DataError
from llmrec.sources.assemble import assemble
from llmrec.sources.base import Dataset
from llmrec.sources.table import TableChecks


class HubTable(Component):
    """One table: the arguments of `datasets.load_dataset`.

    Args:
        name: `user/name` on the Hub, a local folder of data files, or a kind of file (`parquet`, `csv`, `json`).
        config: of a data set that has several. split: of it. revision: a branch, tag or commit; pin it.
        data_files: paths or addresses, for a kind of file or for some files of a repository.
    """

    name: str
    config: str | None = None
    split: str = "train"
    revision: str | None = None
    data_files: tuple[str, ...] | None = None

    def read(self, key: str) -> pa.Table:
        """The table.

        Args:
            key: its key in the recipe, for messages.

        Raises:
            DataError: it cannot be loaded; with the reason that `datasets` gives.
        """
        from datasets import load_dataset

        files = None if self.data_files is None else list(self.data_files)
        try:
            found = load_dataset(self.name, self.config, split=self.split, revision=self.revision, data_files=files)
        except (OSError, ValueError, RuntimeError) as error:  # those of datasets and of the Hub are among them
            raise DataError(
                f"'{self.name}' cannot be loaded: {' '.join(str(error).split())}",
                where=f"data.{key}",
                fix="Check name, config, split and revision; a private data set needs 'hf auth login'.",
            ) from error
        table: pa.Table = found.with_format("arrow")[:]
        return table


class HubSource(TableChecks):
    """Interactions and items from the Hub.

    Args:
        interactions, items: the two tables.
    """

    interactions: HubTable
    items: HubTable

    def load(self) -> Dataset:
        """Read, clean and check both tables.

        Raises:
            DataError: with table, row, column and what to do.
        """
        events, items = self.interactions.read("interactions"), self.items.read("items")
        where = (f"{self.interactions.name} (interactions)", f"{self.items.name} (items)")
        return assemble(events, items, self.columns, self, where)

    def fingerprint(self) -> str:
        """SHA-256 over the contents of both tables, which are read for it."""
        return _digest([self.interactions.read("interactions"), self.items.read("items")])


def _digest(tables: Sequence[pa.Table]) -> str:
    total = hashlib.sha256()

    class Sink:
        closed = False

        def write(self, data: Any) -> int:
            total.update(data)
            return len(data)

        def flush(self) -> None: ...

        def close(self) -> None: ...

    for table in tables:
        plain = table.replace_schema_metadata(None).combine_chunks()  # however it was cut into files
        with pa.ipc.new_stream(pa.PythonFile(Sink(), mode="w"), plain.schema) as stream:
            stream.write_table(plain)
    return total.hexdigest()
