"""External ids (strings) <-> int32 rows, without a Python dictionary of ten million entries."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from llmrec.errors import DataError

UNKNOWN = -1


class Vocabulary:
    """An ordered set of ids; the row of an id is its position.

    Args:
        ids: the ids, unique and not null, in row order. Other types than strings are cast to strings.

    Raises:
        DataError: an id is null or appears twice.
    """

    def __init__(self, ids: Iterable[str] | pa.Array | pa.ChunkedArray) -> None:
        array = ids if isinstance(ids, pa.Array | pa.ChunkedArray) else pa.array(list(ids), pa.string())
        if isinstance(array, pa.ChunkedArray):
            array = array.combine_chunks()
        self.ids: pa.StringArray = array.cast(pa.string())
        if self.ids.null_count:
            row = int(np.flatnonzero(self.ids.is_null().to_numpy(zero_copy_only=False))[0])
            raise DataError("the id is empty.", row=row, fix="Give every row an id.")
        if pc.count_distinct(self.ids).as_py() != len(self.ids):
            counts = pc.value_counts(self.ids)
            twice = next(c["values"] for c in counts.to_pylist() if c["counts"] > 1)
            raise DataError(f"the id '{twice}' appears twice.", fix="Keep one row an id.")

    def __len__(self) -> int:
        return len(self.ids)

    def __contains__(self, external_id: str) -> bool:
        return self.row(external_id) != UNKNOWN

    def __getitem__(self, row: int) -> str:
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} of {len(self)}")
        return str(self.ids[row].as_py())

    @cached_property
    def _order(self) -> NDArray[np.int32]:
        return pc.sort_indices(self.ids).to_numpy().astype(np.int32)

    def row(self, external_id: str) -> int:
        """The row of one id by binary search (a request), or `UNKNOWN` (-1)."""
        key, low, high = external_id.encode(), 0, len(self)
        while low < high:
            middle = (low + high) // 2
            value = self.ids[int(self._order[middle])].as_py().encode()
            low, high = (middle + 1, high) if value < key else (low, middle)
        found = low < len(self) and self.ids[int(self._order[low])].as_py() == external_id
        return int(self._order[low]) if found else UNKNOWN

    def rows(self, external_ids: Sequence[str] | pa.Array | pa.ChunkedArray) -> NDArray[np.int32]:
        """The rows of many ids, `int32[n]`; `UNKNOWN` (-1) where the vocabulary lacks an id."""
        if isinstance(external_ids, pa.Array | pa.ChunkedArray):
            array = external_ids
        else:
            array = pa.array([str(i) for i in external_ids], pa.string())
        found = pc.index_in(array.cast(pa.string()), value_set=self.ids)
        return pc.fill_null(found, UNKNOWN).to_numpy(zero_copy_only=False).astype(np.int32)
