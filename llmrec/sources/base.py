"""The contract of a source: something outside becomes a clean catalog and sorted interactions."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from llmrec.data.catalog import Catalog
from llmrec.data.interactions import Interactions


class Dataset(NamedTuple):
    """The two tables that everything else starts from."""

    catalog: Catalog
    interactions: Interactions


class Source(Protocol):
    """What every source offers (a `Component` whose fields are its settings)."""

    def load(self) -> Dataset:
        """Read, clean and check both tables.

        Raises:
            DataError: with file, row, column and what to do.
        """
        ...

    def fingerprint(self) -> str:
        """A short text that changes when the data do (file sizes and content hashes), for the stage cache."""
        ...
