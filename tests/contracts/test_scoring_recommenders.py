"""The two counters keep the contract of a recommender."""

from contracts.recommender_contract import RecommenderContract, ToyWorld

from llmrec.recommenders.base import Recommender
from llmrec.recommenders.markov import Markov
from llmrec.recommenders.popularity import Popularity


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
