"""Trained baselines keep the contract of a recommender; a batch's shape changes the last bits of a score."""

from contracts.recommender_contract import RecommenderContract, ToyWorld

from llmrec.recommenders.base import Recommender
from llmrec.recommenders.bert4rec import BERT4Rec
from llmrec.recommenders.sasrec import SASRec
from llmrec.recommenders.text_linear import TextLinear

QUICK = {"dimensions": 8, "epochs": 2, "batch_size": 4, "progress": False, "device": "cpu"}


class TestSASRecContract(RecommenderContract):
    tolerance = 1e-5

    @classmethod
    def make(cls, world: ToyWorld) -> Recommender:
        return SASRec(**QUICK, max_history=4).fit(world.split.train, world.catalog)


class TestBERT4RecContract(RecommenderContract):
    tolerance = 1e-5

    @classmethod
    def make(cls, world: ToyWorld) -> Recommender:
        return BERT4Rec(**QUICK, max_history=4).fit(world.split.train, world.catalog)


class TestTextLinearContract(RecommenderContract):
    tolerance = 1e-5

    @classmethod
    def make(cls, world: ToyWorld) -> Recommender:
        return TextLinear(**QUICK, encoder={"kind": "tfidf"}).fit(world.split.train, world.catalog)
