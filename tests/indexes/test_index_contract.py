"""Every kind of index keeps the contract."""

from pathlib import Path

import pyarrow as pa
from contracts.index_contract import IndexContract, clustered_world
from pyarrow import parquet
from worlds import make_tiny_tokenizer

from llmrec.indexes.base import Indexer
from llmrec.indexes.published import PublishedIndex
from llmrec.indexes.rqkmeans import RQKMeansIndex
from llmrec.indexes.title import TitleIndex


class TestRQKMeansDigit(IndexContract):
    def make(self, folder: Path) -> Indexer:
        return RQKMeansIndex(encoder={"kind": "tfidf"}, levels=[8, 4])


class TestRQKMeansNearest(IndexContract):
    def make(self, folder: Path) -> Indexer:
        return RQKMeansIndex(encoder={"kind": "tfidf"}, levels=[5, 4, 3], collisions="nearest")


class TestRQKMeansWithBehaviour(IndexContract):
    def make(self, folder: Path) -> Indexer:
        return RQKMeansIndex(encoder={"kind": "tfidf"}, levels=[8, 4], behaviour={"window": 3})


class TestPublished(IndexContract):
    unique = False
    can_add = False

    def make(self, folder: Path) -> Indexer:
        ids = clustered_world().catalog.items.ids
        codes = [f"<a_{row % 7}><b_{row // 7 % 4}>" for row in range(len(ids))]
        parquet.write_table(pa.table({"item_id": ids, "sid": codes}), folder / "sids.parquet")
        return PublishedIndex(path=folder / "sids.parquet")


class TestTitle(IndexContract):
    def make(self, folder: Path) -> Indexer:
        make_tiny_tokenizer().save_pretrained(folder / "tokenizer")
        return TitleIndex(tokenizer=str(folder / "tokenizer"), max_tokens=40)
