"""Every kind of index keeps the contract."""

from pathlib import Path

import pyarrow as pa
from contracts.index_contract import IndexContract, clustered_world
from pyarrow import parquet
from worlds import make_tiny_tokenizer

from llmrec.indexes.atomic import AtomicIndex
from llmrec.indexes.base import Indexer
from llmrec.indexes.collaborative import CollaborativeIndex
from llmrec.indexes.fsq import FSQIndex
from llmrec.indexes.hybrid import HybridIndex
from llmrec.indexes.opq import OPQIndex
from llmrec.indexes.published import PublishedIndex
from llmrec.indexes.random import RandomIndex
from llmrec.indexes.rqkmeans import RQKMeansIndex
from llmrec.indexes.rqvae import RQVAEIndex
from llmrec.indexes.semantic import SemanticIndex
from llmrec.indexes.sequential import SequentialIndex
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


class TestRQKMeansSinkhorn(IndexContract):
    def make(self, folder: Path) -> Indexer:
        return RQKMeansIndex(encoder={"kind": "tfidf"}, levels=[5, 4, 4], collisions="sinkhorn")


class TestRQKMeansBalanced(IndexContract):
    def make(self, folder: Path) -> Indexer:
        return RQKMeansIndex(encoder={"kind": "tfidf"}, levels=[5, 4, 4], collisions="nearest", balanced=True)


class TestOPQ(IndexContract):
    def make(self, folder: Path) -> Indexer:
        return OPQIndex(encoder={"kind": "tfidf"}, levels=[8, 8, 4], rotations=3)


class TestRQVAE(IndexContract):
    def make(self, folder: Path) -> Indexer:
        return RQVAEIndex(encoder={"kind": "tfidf"}, levels=[8, 4], latent_dimensions=8, hidden=[16], steps=30)


class TestRQVAEGradient(IndexContract):
    def make(self, folder: Path) -> Indexer:
        return RQVAEIndex(
            encoder={"kind": "tfidf"},
            levels=[8, 12],
            latent_dimensions=8,
            hidden=[16],
            steps=30,
            codebook_update="gradient",
            collisions="nearest",
        )


class TestFSQ(IndexContract):
    def make(self, folder: Path) -> Indexer:
        return FSQIndex(encoder={"kind": "tfidf"}, groups=[[4, 3], [5, 2]], hidden=[16], steps=30)


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


class TestAtomic(IndexContract):
    can_add = False

    def make(self, folder: Path) -> Indexer:
        return AtomicIndex()


class TestRandom(IndexContract):
    def make(self, folder: Path) -> Indexer:
        return RandomIndex(levels=[8, 8], seed=1)


class TestSequential(IndexContract):
    def make(self, folder: Path) -> Indexer:
        return SequentialIndex(levels=[4, 4, 4])


class TestCollaborative(IndexContract):
    can_add = False

    def make(self, folder: Path) -> Indexer:
        return CollaborativeIndex(clusters=3, leaf_size=12)  # three parts of five topics: codes differ in length


class TestSemantic(IndexContract):
    def make(self, folder: Path) -> Indexer:
        return SemanticIndex()


class TestHybrid(IndexContract):
    can_add = False

    def make(self, folder: Path) -> Indexer:
        return HybridIndex(collaborative=CollaborativeIndex(clusters=3, leaf_size=12))
