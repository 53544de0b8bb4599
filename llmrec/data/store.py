"""A data set as parquet files, as the stage cache keeps it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from llmrec.data.catalog import Catalog
from llmrec.data.interactions import Interactions
from llmrec.data.vocabulary import Vocabulary


def save(folder: Path, catalog: Catalog, interactions: Interactions) -> None:
    """Write `catalog.parquet`, `users.parquet` and `interactions.parquet`."""
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(catalog.table, folder / "catalog.parquet")
    lengths = np.diff(interactions.offsets)
    pq.write_table(pa.table({"user_id": interactions.users.ids, "events": lengths}), folder / "users.parquet")
    pq.write_table(interactions.table, folder / "interactions.parquet")


def load(folder: Path) -> tuple[Catalog, Interactions]:
    """Read what `save` wrote."""
    catalog = Catalog(pq.read_table(folder / "catalog.parquet"))
    users = pq.read_table(folder / "users.parquet")
    offsets = np.concatenate([[0], np.cumsum(users["events"].to_numpy())]).astype(np.int64)
    table = pq.read_table(folder / "interactions.parquet")
    return catalog, Interactions(Vocabulary(users["user_id"]), catalog.items, table, offsets)
