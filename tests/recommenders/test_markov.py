"""Markov: what followed the last item first, then what is popular; and the known figures on real data."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmrec.data.catalog import Catalog
from llmrec.data.interactions import Interactions
from llmrec.data.split import Split, leave_one_out
from llmrec.errors import RecipeError
from llmrec.evaluation.protocol import evaluate
from llmrec.recommenders.markov import Markov

CATALOG = Catalog(pa.table({"item_id": list("abcdefg"), "title": list("ABCDEFG")}))


def events(*walks: str) -> Interactions:
    users = pa.array([f"u{user}" for user, walk in enumerate(walks) for _ in walk])
    times = np.concatenate([np.arange(len(walk)) for walk in walks])
    return Interactions.from_columns(users, pa.array(list("".join(walks))), times, CATALOG.items)


def answer(recommender: Markov, history: str, k: int = 7) -> str:
    rows = recommender.recommend([np.array(["abcdefg".index(item) for item in history], np.int32)], k=k).rows[0]
    return "".join("abcdefg"[row] for row in rows if row >= 0)


def test_steps_of_the_last_item_come_before_popular_items() -> None:
    # from a: twice to b, once to c; events: a 3, f 4, b 2, c 1
    recommender = Markov().fit(events("ab", "ac", "ab", "f", "f", "f", "f"), CATALOG)
    assert answer(recommender, "a") == "bcfdeg"
    assert answer(recommender, "ca") == "bfdeg"  # c was taken
    assert answer(recommender, "b") == "facdeg"  # nothing followed b: popularity
    assert answer(recommender, "") == "fabcdeg"


def test_a_step_joins_neighbours_of_one_user_only() -> None:
    recommender = Markov().fit(events("ab", "cd"), CATALOG)
    scores = recommender.recommend([np.array([1], np.int32)], k=7, exclude_seen=False).scores
    assert scores.max() < 1  # nobody went on from b; the next user's c is no step


def test_equal_counts_keep_the_order_of_train_or_follow_popularity() -> None:
    train = events("ad", "ab", "b", "b", "ac")
    assert answer(Markov(ties="first_seen").fit(train, CATALOG), "a", k=3) == "dbc"
    assert answer(Markov(ties="popularity").fit(train, CATALOG), "a", k=3) == "bcd"


def test_an_unknown_way_to_break_ties_is_refused() -> None:
    with pytest.raises(RecipeError, match="ties"):
        Markov.parse({"ties": "random"})


walks = st.lists(st.text(alphabet="abcdefg", min_size=1, max_size=6), min_size=1, max_size=6)


@given(walks, st.sampled_from(["first_seen", "popularity"]), st.sampled_from("abcdefg"))
def test_equals_a_plain_counter(walks: list[str], ties: str, last: str) -> None:
    popularity = {item: "".join(walks).count(item) for item in "abcdefg"}
    steps = [after for walk in walks for before, after in pairwise(walk) if before == last]

    def place(item: str) -> tuple[int, ...]:
        if item not in steps:
            return (0, -popularity[item])
        return (-steps.count(item), steps.index(item) if ties == "first_seen" else -popularity[item])

    expected = sorted((item for item in "abcdefg" if item != last), key=place)
    assert answer(Markov(ties=ties).fit(events(*walks), CATALOG), last) == "".join(expected)


def real_split(folder: Path) -> tuple[Catalog, Split]:
    catalog, table = Catalog(pq.read_table(folder / "items.parquet")), pq.read_table(folder / "interactions.parquet")
    times = table["position"].to_numpy()
    return catalog, leave_one_out(Interactions.from_columns(table["user_id"], table["item_id"], times, catalog.items))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "hit_rate", "ndcg"), [("amazon14_office", 0.0760, 0.0477), ("amazon14_beauty", 0.0628, 0.0422)]
)
def test_known_figures_of_amazon_2014(shared_data: Path, name: str, hit_rate: float, ndcg: float) -> None:
    catalog, split = real_split(shared_data / name)
    result = evaluate(Markov().fit(split.train, catalog), split.test, progress=False, split=split.protocol)
    assert result.metrics["hr@10"] == pytest.approx(hit_rate, abs=5e-5)
    assert result.metrics["ndcg@10"] == pytest.approx(ndcg, abs=5e-5)
    assert (result.invalid, result.duplicates, result.excluded_returned, result.unfilled) == (0, 0, 0, 0)
