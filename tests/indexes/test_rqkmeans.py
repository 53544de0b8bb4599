"""Residual k-means codes: alike items share prefixes, each item has its own, and one seed gives one index."""

import json
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from contracts.index_contract import ITEMS, clustered_world
from pyarrow import parquet
from threads import on_threads

from llmrec.data.catalog import Catalog
from llmrec.data.interactions import Interactions
from llmrec.data.split import leave_one_out
from llmrec.errors import DataError, RecipeError
from llmrec.indexes.base import ItemIndex
from llmrec.indexes.quantized import residual_codes
from llmrec.indexes.rqkmeans import RQKMeansIndex, residual_kmeans

TFIDF = {"kind": "tfidf", "dimensions": 32}
OFFICE = {"encoder": TFIDF, "levels": [32, 32, 32], "behaviour": {"dimensions": 16}, "iterations": 5}


def build(**settings: object) -> ItemIndex:
    world = clustered_world()
    return RQKMeansIndex.parse({"encoder": TFIDF, **settings}).build(world.catalog, world.train)


@pytest.fixture(scope="module")
def office(shared_data: Path) -> tuple[Catalog, Interactions]:
    folder = shared_data / "amazon14_office"
    catalog = Catalog(parquet.read_table(folder / "items.parquet"))
    events = parquet.read_table(folder / "interactions.parquet")
    times = events["position"].to_numpy()
    interactions = Interactions.from_columns(events["user_id"], events["item_id"], times, catalog.items)
    return catalog, leave_one_out(interactions).train


def test_the_first_level_finds_the_topics() -> None:
    first = build(levels=[5, 8]).codes[:, 0]
    topics = clustered_world().topics
    assert len(set(zip(topics.tolist(), first.tolist(), strict=True))) == 5


def test_items_with_one_title_differ_only_where_collisions_are_resolved() -> None:
    digit = build(levels=[8, 8])
    assert digit.codes[0, :-1].tolist() == digit.codes[1, :-1].tolist()
    assert [digit.codes[0, -1], digit.codes[1, -1]] == [0, 1]
    near = build(levels=[8, 16], collisions="nearest")
    assert near.codes[0, 0] == near.codes[1, 0]
    assert near.codes[0, 1] != near.codes[1, 1]
    assert near.level_sizes == (8, 16)


@pytest.mark.parametrize("levels", [[60], [2, 30], [4, 4, 4], [1, 1, 60], [300, 300]])
def test_nearest_uses_the_last_code_if_it_must(levels: list[int]) -> None:
    index = build(levels=levels, collisions="nearest")
    assert index.collisions == 0
    assert index.level_sizes == tuple(levels)


def test_nearest_with_too_few_codes_says_what_to_change() -> None:
    with pytest.raises(RecipeError, match=r"make 56 codes, fewer than the 60 items. Enlarge a level"):
        build(levels=[8, 7], collisions="nearest")


def test_one_item_alone() -> None:
    world = clustered_world()
    catalog = world.catalog.take(np.array([3]))
    train = Interactions.from_columns(pa.array(["u"]), pa.array(["i3"]), np.zeros(1, np.int64), catalog.items)
    for collisions in ("digit", "nearest"):
        index = RQKMeansIndex(encoder=TFIDF, levels=[4, 4], collisions=collisions).build(catalog, train)
        assert len(index) == 1
        assert index.level_sizes == (4, 4)


def test_a_catalog_without_items_is_refused() -> None:
    world = clustered_world()
    with pytest.raises(DataError, match="the catalog has no item"):
        RQKMeansIndex(encoder=TFIDF).build(world.catalog.take(np.zeros(0, np.int32)), world.train)


def test_the_seed_matters() -> None:
    assert build(levels=[8, 4], seed=1).digest != build(levels=[8, 4], seed=2).digest


def test_weight_zero_is_text_alone() -> None:
    assert build(levels=[8, 4], behaviour={}, behaviour_weight=0.0).digest == build(levels=[8, 4]).digest


def test_behaviour_changes_the_codes() -> None:
    assert build(levels=[8, 4], behaviour={}).digest != build(levels=[8, 4]).digest


def test_weight_one_is_behaviour_alone() -> None:
    by_title = build(levels=[8, 4], behaviour={}, behaviour_weight=1.0)
    by_nothing = build(levels=[8, 4], encoder={"kind": "behaviour"})
    assert by_title.digest == by_nothing.digest  # every item has train events here


def test_the_error_falls_from_level_to_level() -> None:
    vectors = np.random.default_rng(0).normal(size=(300, 8)).astype(np.float32)
    codebooks = [level.centroids for level in residual_kmeans(vectors, [6, 6, 6], seed=0, iterations=10)]
    codes, errors = residual_codes(vectors, codebooks)
    assert errors == sorted(errors, reverse=True)
    rebuilt = sum(codebook[column] for codebook, column in zip(codebooks, codes.T, strict=True))
    left = float(((vectors - rebuilt) ** 2).sum() / (vectors**2).sum())
    assert errors[-1] == pytest.approx(left, rel=1e-4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"encoder": {"kind": "tfdf"}}, r"There is no encoder 'tfdf'. Did you mean 'tfidf'\?"),
        ({"encoder": {"dimensions": 3}}, r"index.encoder: say which one with 'kind:'"),
        ({"encoder": {"kind": "tfidf", "dimension": 3}}, r"index.encoder.dimension.*Did you mean 'dimensions'\?"),
        ({"behaviour": {"windw": 3}}, r"index.behaviour.windw.*Did you mean 'window'\?"),
        ({"levels": []}, r"levels"),
        ({"levels": [8, 0]}, r"levels.1"),
        ({"collisions": "suffix"}, r"'digit', 'nearest' or 'sinkhorn'"),
        ({"behaviour_weight": 1.5}, r"behaviour_weight"),
    ],
)
def test_settings_that_cannot_be_are_refused_when_read(settings: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        RQKMeansIndex.parse({"encoder": TFIDF, **settings})


@pytest.mark.slow
def test_office_every_item_has_its_own_code(office: tuple[Catalog, Interactions]) -> None:
    for collisions in ("digit", "nearest"):
        index = RQKMeansIndex(**OFFICE, collisions=collisions).build(*office)
        assert len(index) == 2420
        assert index.collisions == 0
        assert index.provenance["collisions"]["before"]["colliding"] > 0  # there was something to resolve
        assert len(np.unique(index.codes[:, 0])) == 32


PROBE = """
import json, sys
from pathlib import Path
from pyarrow import parquet
from llmrec.data.catalog import Catalog
from llmrec.data.interactions import Interactions
from llmrec.data.split import leave_one_out
from llmrec.indexes.quantized import residual_codes
from llmrec.indexes.rqkmeans import RQKMeansIndex
folder, settings = Path(sys.argv[1]), json.loads(sys.argv[2])
catalog = Catalog(parquet.read_table(folder / "items.parquet"))
events = parquet.read_table(folder / "interactions.parquet")
interactions = Interactions.from_columns(
    events["user_id"], events["item_id"], events["position"].to_numpy(), catalog.items)
print(RQKMeansIndex(**settings).build(catalog, leave_one_out(interactions).train).digest)
"""


@pytest.mark.slow
def test_office_same_bytes_on_another_number_of_threads(
    office: tuple[Catalog, Interactions], shared_data: Path
) -> None:
    expected = RQKMeansIndex(**OFFICE).build(*office).digest
    threads = 2 if os.environ.get("OMP_NUM_THREADS") == "1" else 1
    answer = on_threads(threads, "-c", PROBE, str(shared_data / "amazon14_office"), json.dumps(OFFICE))
    assert answer.strip() == expected


MANY = """
import hashlib, os, sys
from types import SimpleNamespace
import numpy as np
import pyarrow as pa
from llmrec.data.catalog import Catalog
from llmrec.data.interactions import Interactions
from llmrec.encoders.base import Encoded
from llmrec.indexes import kmeans
from llmrec.indexes.rqkmeans import RQKMeansIndex
os.cpu_count = lambda: int(os.environ["OMP_NUM_THREADS"])  # so many chunks at once
kmeans.SAMPLE, kmeans.ENOUGH = 200, 0  # two of the levels learn from a sample, as in a catalog of millions
rng = np.random.default_rng(0)
centres = rng.normal(size=(500, 64))
vectors = (centres[rng.integers(0, 500, 20_000)] + 0.3 * rng.normal(size=(20_000, 64))).astype(np.float32)
class GivenVectors(RQKMeansIndex):
    def _space(self):
        return SimpleNamespace(fit=lambda catalog, train: Encoded(vectors, {}))
names = pa.array(np.arange(len(vectors)).astype(str))
catalog = Catalog(pa.table({"item_id": names, "title": names}))
train = Interactions.from_columns(names[:1], names[:1], np.zeros(1, np.int64), catalog.items)
for collisions in ("digit", "nearest"):
    index = GivenVectors(encoder={}, levels=[128, 64, 64], iterations=5, collisions=collisions).build(catalog, train)
    assert index.collisions == 0 and index.provenance["collisions"]["before"]["colliding"] > 100
    learned = hashlib.sha256(b"".join(index.state[name].tobytes() for name in sorted(index.state))).hexdigest()
    print(collisions, index.digest, learned, index.provenance["reconstruction_error"])
"""


def test_twenty_thousand_items_same_bytes_on_one_thread_and_on_two() -> None:
    answers = [on_threads(threads, "-c", MANY).splitlines() for threads in (1, 2)]
    assert [line.split()[0] for line in answers[0]] == ["digit", "nearest"]
    assert answers[0] == answers[1]


def test_the_synthetic_world_is_what_the_tests_take_it_for() -> None:
    world = clustered_world()
    assert len(world.catalog) == ITEMS == 60
    assert len(set(world.catalog.texts())) == 55
    assert (np.bincount(world.train.item_rows, minlength=ITEMS) > 0).all()
