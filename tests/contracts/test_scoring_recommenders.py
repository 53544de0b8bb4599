"""Counters, neighbours and closed forms keep the contract of a recommender."""

from contracts.recommender_contract import RecommenderContract, ToyWorld

from llmrec.recommenders.als import ALS
from llmrec.recommenders.base import Recommender
from llmrec.recommenders.ease import EASE
from llmrec.recommenders.itemknn import ItemKNN
from llmrec.recommenders.markov import Markov
from llmrec.recommenders.popularity import Popularity
from llmrec.recommenders.skip_markov import SkipMarkov
from llmrec.recommenders.text_knn import TextKNN


class TestPopularityContract(RecommenderContract):
    @classmethod
    def make(cls, world: ToyWorld) -> Recommender:
        return Popularity().fit(world.split.train, world.catalog)


class TestMarkovContract(RecommenderContract):
    @classmethod
    def make(cls, world: ToyWorld) -> Recommender:
        return Markov().fit(world.split.train, world.catalog)


class TestMarkovPopularityTiesContract(RecommenderContract):
    @classmethod
    def make(cls, world: ToyWorld) -> Recommender:
        return Markov(ties="popularity").fit(world.split.train, world.catalog)


class TestRecentPopularityContract(RecommenderContract):
    @classmethod
    def make(cls, world: ToyWorld) -> Recommender:
        return Popularity(window=2, half_life=1).fit(world.split.train, world.catalog)


class TestSkipMarkovContract(RecommenderContract):
    @classmethod
    def make(cls, world: ToyWorld) -> Recommender:
        return SkipMarkov().fit(world.split.train, world.catalog)


class TestItemKNNContract(RecommenderContract):
    @classmethod
    def make(cls, world: ToyWorld) -> Recommender:
        return ItemKNN(neighbours=3, shrinkage=1).fit(world.split.train, world.catalog)


class TestEASEContract(RecommenderContract):
    @classmethod
    def make(cls, world: ToyWorld) -> Recommender:
        return EASE(regularization=2).fit(world.split.train, world.catalog)


class TestTextKNNContract(RecommenderContract):
    @classmethod
    def make(cls, world: ToyWorld) -> Recommender:
        return TextKNN(encoder={"kind": "tfidf"}, decay=0.9, centre=True).fit(world.split.train, world.catalog)


class TestALSContract(RecommenderContract):
    @classmethod
    def make(cls, world: ToyWorld) -> Recommender:
        return ALS(factors=4).fit(world.split.train, world.catalog)
