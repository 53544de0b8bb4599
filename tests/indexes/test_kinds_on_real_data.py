"""The kinds of index that need no item vectors, on a real catalog."""

import os
import sys
from pathlib import Path

import pytest
from contracts.index_cases import assert_codes_can_be_told_apart
from pyarrow import parquet
from threads import on_threads

from llmrec.data.catalog import Catalog
from llmrec.data.interactions import Interactions
from llmrec.data.split import leave_one_out
from llmrec.indexes.base import ItemIndex
from llmrec.registry import build

pytestmark = pytest.mark.slow

KINDS = {
    "atomic": {},
    "random": {"levels": [64, 64]},
    "sequential": {},
    "collaborative": {},
    "semantic": {"separator": ", "},
    "hybrid": {},
}


@pytest.fixture(scope="module")
def office(shared_data: Path) -> tuple[Catalog, Interactions]:
    return load_office(shared_data / "amazon14_office")


def load_office(folder: Path) -> tuple[Catalog, Interactions]:
    catalog = Catalog(parquet.read_table(folder / "items.parquet"))
    events = parquet.read_table(folder / "interactions.parquet")
    times = events["position"].to_numpy()
    interactions = Interactions.from_columns(events["user_id"], events["item_id"], times, catalog.items)
    return catalog, leave_one_out(interactions).train


def made(kind: str, office: tuple[Catalog, Interactions]) -> ItemIndex:
    index: ItemIndex = build("index", {"kind": kind, **KINDS[kind]}).build(*office)
    return index


@pytest.mark.parametrize("kind", KINDS)
def test_every_item_has_a_code_that_no_other_begins_with(kind: str, office: tuple[Catalog, Interactions]) -> None:
    index = made(kind, office)
    assert len(index) == 2420
    assert_codes_can_be_told_apart(index)
    assert index.provenance["collisions"]["after"]["colliding"] == 0


def test_their_level_sizes(office: tuple[Catalog, Interactions]) -> None:
    assert made("atomic", office).level_sizes == (2420,)
    assert made("sequential", office).level_sizes == (50, 50)
    assert made("semantic", office).level_sizes == (9, 74, 19, 183, 76, 28, 16)
    hybrid, collaborative = made("hybrid", office), made("collaborative", office)
    assert collaborative.level_sizes[0] == hybrid.level_sizes[0] == 21  # and one for items that nobody took
    assert max(collaborative.level_sizes) <= 100
    assert sum(hybrid.level_sizes) < 2420 + 3 * 21


@pytest.mark.parametrize("kind", ["sequential", "collaborative"])
def test_what_is_taken_together_shares_the_first_code(kind: str, office: tuple[Catalog, Interactions]) -> None:
    def shared(name: str) -> float:
        first = made(name, office).codes[:, 0]
        items, users = office[1].item_rows, office[1].user_rows
        follows = (users[1:] == users[:-1]) & (items[1:] != items[:-1])
        return float((first[items[1:]] == first[items[:-1]])[follows].mean())

    assert shared(kind) > 3 * shared("random")


def test_the_clusters_are_the_same_on_another_number_of_threads(
    office: tuple[Catalog, Interactions], shared_data: Path
) -> None:
    threads = 2 if os.environ.get("OMP_NUM_THREADS") == "1" else 1
    answer = on_threads(threads, __file__, str(shared_data / "amazon14_office"))  # this file as a script, see below
    assert answer.strip() == made("collaborative", office).digest


if __name__ == "__main__":
    print(made("collaborative", load_office(Path(sys.argv[1]))).digest)
