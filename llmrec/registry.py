"""Name -> class, for everything that a recipe can choose: one line a technique, imported when it is first used."""

from __future__ import annotations

from importlib import import_module
from typing import Any, Literal

from llmrec.errors import RecipeError, did_you_mean

Kind = Literal["source", "encoder", "index", "task", "negatives", "reward", "trainer", "recommender"]

REGISTRY: dict[Kind, dict[str, str]] = {
    "source": {
        "table": "llmrec.sources.table:TableSource",
        "recbole": "llmrec.sources.recbole:RecBoleSource",
        "movielens": "llmrec.sources.movielens:MovieLensSource",
        "amazon_reviews": "llmrec.sources.amazon_reviews:AmazonReviewsSource",
        "yelp": "llmrec.sources.yelp:YelpSource",
        "steam": "llmrec.sources.steam:SteamSource",
        "hub": "llmrec.sources.hub:HubSource",
        "synthetic": "llmrec.sources.synthetic:SyntheticSource",
    },
    "encoder": {
        "tfidf": "llmrec.encoders.tfidf:TfidfEncoder",
        "minilm": "llmrec.encoders.minilm:MiniLMEncoder",
        "language_model": "llmrec.encoders.language_model:LanguageModelEncoder",
        "behaviour": "llmrec.encoders.behaviour:BehaviourEncoder",
    },
    "index": {
        "atomic": "llmrec.indexes.atomic:AtomicIndex",
        "title": "llmrec.indexes.title:TitleIndex",
        "random": "llmrec.indexes.random:RandomIndex",
        "sequential": "llmrec.indexes.sequential:SequentialIndex",
        "collaborative": "llmrec.indexes.collaborative:CollaborativeIndex",
        "semantic": "llmrec.indexes.semantic:SemanticIndex",
        "hybrid": "llmrec.indexes.hybrid:HybridIndex",
        "rqkmeans": "llmrec.indexes.rqkmeans:RQKMeansIndex",
        "rqvae": "llmrec.indexes.rqvae:RQVAEIndex",
        "fsq": "llmrec.indexes.fsq:FSQIndex",
        "opq": "llmrec.indexes.opq:OPQIndex",
        "published": "llmrec.indexes.published:PublishedIndex",
    },
    "task": {
        "request_to_item": "llmrec.tasks.alignment.request_to_item:RequestToItem",
        "title_to_item": "llmrec.tasks.alignment.title_to_item:TitleToItem",
        "item_to_title": "llmrec.tasks.alignment.item_to_title:ItemToTitle",
        "description_to_item": "llmrec.tasks.alignment.description_to_item:DescriptionToItem",
        "titles_to_item": "llmrec.tasks.alignment.titles_to_item:TitlesToItem",
        "item_to_category": "llmrec.tasks.alignment.item_to_category:ItemToCategory",
    },
    "negatives": {
        "uniform": "llmrec.tasks.negatives.uniform:Uniform",
        "popularity": "llmrec.tasks.negatives.popularity:Popularity",
        "in_prefix": "llmrec.tasks.negatives.in_prefix:InPrefix",
        "beams": "llmrec.tasks.negatives.beams:Beams",
        "exposures": "llmrec.tasks.negatives.exposures:Exposures",
        "ratings": "llmrec.tasks.negatives.ratings:Ratings",
    },
    "reward": {
        "next_item": "llmrec.trainers.rewards.next_item:NextItem",
        "rank_penalty": "llmrec.trainers.rewards.rank_penalty:RankPenalty",
        "semantic": "llmrec.trainers.rewards.semantic:Semantic",
        "collaborative": "llmrec.trainers.rewards.collaborative:Collaborative",
        "diversity": "llmrec.trainers.rewards.diversity:Diversity",
        "recommender": "llmrec.trainers.rewards.recommender:OtherRecommender",
        "learned_head": "llmrec.trainers.rewards.learned_head:LearnedHead",
        "function": "llmrec.trainers.rewards.function:Function",
    },
    "trainer": {
        "sft": "llmrec.trainers.sft:SFT",
        "dpo": "llmrec.trainers.dpo:DPO",
        "list_dpo": "llmrec.trainers.list_dpo:ListDPO",
        "rounds": "llmrec.trainers.rounds:Rounds",
        "grpo": "llmrec.trainers.grpo:GRPO",
        "item_head": "llmrec.trainers.item_head:ItemHead",
    },
    "recommender": {
        "popularity": "llmrec.recommenders.popularity:Popularity",
        "markov": "llmrec.recommenders.markov:Markov",
        "skip_markov": "llmrec.recommenders.skip_markov:SkipMarkov",
        "itemknn": "llmrec.recommenders.itemknn:ItemKNN",
        "ease": "llmrec.recommenders.ease:EASE",
        "als": "llmrec.recommenders.als:ALS",
        "text_knn": "llmrec.recommenders.text_knn:TextKNN",
        "text_linear": "llmrec.recommenders.text_linear:TextLinear",
        "sasrec": "llmrec.recommenders.sasrec:SASRec",
        "bert4rec": "llmrec.recommenders.bert4rec:BERT4Rec",
        "llm": "llmrec.recommenders.llm:LLMRecommender",
        "item_head": "llmrec.recommenders.item_head:ItemHeadRecommender",
    },
}


def resolve(kind: Kind, name: str) -> Any:
    """The class registered under this name.

    Raises:
        RecipeError: no such name; the message names the closest.
    """
    names = REGISTRY[kind]
    if not isinstance(name, str) or name not in names:  # a recipe may hold anything
        raise RecipeError(f"There is no {kind} '{name}'. {did_you_mean(str(name), names)}")
    module, attribute = names[name].split(":")
    return getattr(import_module(module), attribute)


def build(kind: Kind, settings: dict[str, Any], where: str = "") -> Any:
    """The component that a recipe's mapping names under the key `kind` (its name) beside its settings.

    Args:
        kind: which part of the registry. settings: for example `{"kind": "rqkmeans", "levels": [64, 64, 64]}`.
        where: the recipe key, for messages.
    """
    if "kind" not in settings:
        raise RecipeError(f"{where or kind}: say which one with 'kind:'. Known: {', '.join(sorted(REGISTRY[kind]))}.")
    rest = {name: value for name, value in settings.items() if name != "kind"}
    return resolve(kind, settings["kind"]).parse(rest, where)
