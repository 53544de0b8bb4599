"""Popularity: counts of train events, in one order for everyone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llmrec.data.catalog import Catalog
from llmrec.data.interactions import Interactions
from llmrec.data.split import leave_one_out
from llmrec.evaluation.protocol import evaluate
from llmrec.recommenders.popularity import Popularity


def fitted() -> Popularity:
    """Item b three times, d twice, a and c once, e never."""
    catalog = Catalog(pa.table({"item_id": list("abcde"), "title": list("ABCDE")}))
    items = pa.array(list("bdbacbd"))
    users = pa.array(list("0011223"))
    return Popularity().fit(Interactions.from_columns(users, items, np.arange(7), catalog.items), catalog)


def test_order_by_count_and_ties_by_row() -> None:
    assert fitted().recommend([np.empty(0, np.int32)], k=5).rows.tolist() == [[1, 3, 0, 2, 4]]


def test_scores_are_smoothed_log_probabilities() -> None:
    scores = fitted().recommend([np.empty(0, np.int32)], k=5).scores[0]
    assert np.exp(scores).tolist() == pytest.approx([4 / 12, 3 / 12, 2 / 12, 2 / 12, 1 / 12], rel=1e-6)


def test_the_history_only_takes_items_away() -> None:
    answer = fitted().recommend([np.array([1]), np.array([3, 0])], k=2)
    assert answer.rows.tolist() == [[3, 0], [1, 2]]


@pytest.mark.slow
def test_office_supplies(shared_data: Path) -> None:
    """The known figure for this data set: the last items of its users are almost never popular ones."""
    catalog = Catalog(pq.read_table(shared_data / "amazon14_office" / "items.parquet"))
    table = pq.read_table(shared_data / "amazon14_office" / "interactions.parquet")
    times = table["position"].to_numpy()
    split = leave_one_out(Interactions.from_columns(table["user_id"], table["item_id"], times, catalog.items))
    result = evaluate(Popularity().fit(split.train, catalog), split.test, progress=False, split=split.protocol)
    assert result.metrics["hr@10"] == pytest.approx(0.0012, abs=5e-5)
    assert (result.users, result.invalid, result.duplicates, result.excluded_returned) == (4905, 0, 0, 0)


def ages(**settings: float) -> list[float]:
    """Probabilities of items a (times 0 and 10), b (time 60) and c (time 100)."""
    catalog = Catalog(pa.table({"item_id": list("abc"), "title": list("ABC")}))
    times = np.array([0, 10, 60, 100])
    train = Interactions.from_columns(pa.array(list("0011")), pa.array(list("aabc")), times, catalog.items)
    found = Popularity(**settings).fit(train, catalog).recommend([np.empty(0, np.int32)], k=3)
    return np.exp(found.scores[0][np.argsort(found.rows[0])]).tolist()


def test_a_window_forgets_what_is_older() -> None:
    assert ages() == pytest.approx([3 / 7, 2 / 7, 2 / 7], rel=1e-6)
    assert ages(window=40) == pytest.approx([1 / 5, 2 / 5, 2 / 5], rel=1e-6)  # the event of 60 is 40 old: just in
    assert ages(window=0) == pytest.approx([1 / 4, 1 / 4, 2 / 4], rel=1e-6)


def test_an_event_of_one_half_life_counts_half() -> None:
    counts = np.array([1 + 2**-2.5 + 2**-2.25, 1 + 2**-1.0, 1 + 1])
    assert ages(half_life=40) == pytest.approx((counts / counts.sum()).tolist(), rel=1e-6)
