"""The base of scoring recommenders: exact ranking, small memory, safe saving."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from llmrec import artifact
from llmrec.data.catalog import Catalog
from llmrec.data.interactions import Interactions
from llmrec.errors import ArtifactError, DataError, LlmrecError
from llmrec.recommenders import scoring
from llmrec.recommenders.base import Recommender, load_recommender_settings
from llmrec.recommenders.markov import Markov
from llmrec.recommenders.popularity import Popularity
from llmrec.recommenders.scoring import ScoringRecommender, top_k
from llmrec.registry import REGISTRY, resolve
from llmrec.types import Ragged

LISTS = [["a", "b"], ["a", "c", "b"], ["d"]]


def train(names: list[list[str]] = LISTS) -> tuple[Interactions, Catalog]:
    catalog = Catalog(pa.table({"item_id": list("abcde"), "title": list("ABCDE")}))
    users = pa.array([f"u{user}" for user, items in enumerate(names) for _ in items])
    items = pa.array([item for items in names for item in items])
    times = np.concatenate([np.arange(len(items)) for items in names])
    return Interactions.from_columns(users, items, times, catalog.items), catalog


scores = st.integers(1, 9).flatmap(
    lambda size: st.lists(
        st.lists(st.sampled_from([-np.inf, -1.5, -0.0, 0.0, 0.25, 3.0]), min_size=size, max_size=size),
        min_size=1,
        max_size=4,
    )
)


@given(scores, st.integers(1, 10))
def test_top_k_is_a_stable_sort_cut_off(lists: list[list[float]], k: int) -> None:
    table = np.array(lists, np.float32)
    rows, values = top_k(table, k)
    for line, row, value in zip(lists, rows.tolist(), values.tolist(), strict=True):
        expected = sorted(range(len(line)), key=lambda column: -line[column])[:k]  # sorted is stable
        assert row == expected
        assert value == [line[column] for column in expected]


@pytest.mark.parametrize("size", [640, 1000, 2049])
def test_top_k_of_many_columns_with_few_different_scores(size: int) -> None:
    table = np.random.default_rng(size).integers(0, 40, (5, size)).astype(np.float32)
    rows, _ = top_k(table, 10)
    assert rows.tolist() == np.argsort(-table, axis=1, kind="stable")[:, :10].tolist()


class Counting(ScoringRecommender):
    """Prefers high rows, and remembers how many histories it was asked to score at once."""

    kind: ClassVar[str] = "counting"
    asked: ClassVar[list[int]] = []

    def learn(self, train: Interactions) -> dict[str, NDArray[Any]]:
        return {"order": np.arange(len(train.items), dtype=np.float32)}

    def score(self, histories: Ragged) -> NDArray[np.float32]:
        self.asked.append(len(histories))
        return np.tile(self._arrays["order"], (len(histories), 1))


def test_users_are_scored_in_chunks_that_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    recommender = Counting().fit(*train())
    histories = [np.array([user % 5], np.int32) for user in range(7)]
    own = Ragged.from_lists([[user % 5, (user + 1) % 5, 2] for user in range(7)])
    whole, mine = recommender.recommend(histories, k=2), recommender.recommend(histories, k=2, candidates=own)
    monkeypatch.setattr(scoring, "SCORES_AT_ONCE", 10)  # two users of five items
    Counting.asked.clear()
    chunked = recommender.recommend(histories, k=2)
    assert Counting.asked == [2, 2, 2, 1]
    assert chunked.rows.tolist() == whole.rows.tolist()
    assert recommender.recommend(histories, k=2, candidates=own).rows.tolist() == mine.rows.tolist()
    monkeypatch.setattr(scoring, "SCORES_AT_ONCE", 1)  # not even one: still one user at a time
    assert recommender.recommend(histories, k=2).rows.tolist() == whole.rows.tolist()


def test_repeated_candidates_give_each_item_once() -> None:
    answer = Counting().fit(*train()).recommend([np.array([4], np.int32)], k=4, candidates=np.array([3, 1, 3]))
    assert answer.rows.tolist() == [[3, 1, -1, -1]]


def test_histories_may_be_a_slice_of_a_longer_array() -> None:
    sliced = Ragged(np.array([4, 3, 0], np.int32), np.array([1, 2, 3]))  # [[3], [0]]
    assert Counting().fit(*train()).recommend(sliced, k=2).rows.tolist() == [[4, 2], [4, 3]]


def test_an_unfitted_recommender_says_so() -> None:
    with pytest.raises(LlmrecError, match=r"Popularity has learnt nothing yet. Call fit"):
        Popularity().recommend([np.array([0])])


def test_a_foreign_catalog_is_refused() -> None:
    interactions, catalog = train()
    with pytest.raises(DataError, match="know 5 items, the catalog has 3"):
        Popularity().fit(interactions, catalog.take(np.array([0, 1, 2])))


def test_an_unknown_history_item_is_named() -> None:
    with pytest.raises(DataError, match="history 1 has item row 5, the catalog has rows 0 to 4"):
        Popularity().fit(*train()).recommend([np.array([0]), np.array([1, 5])])


def test_the_saved_folder_names_its_class_and_settings(tmp_path: Path) -> None:
    Markov(ties="popularity").fit(*train()).save_pretrained(tmp_path / "deep" / "model")
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["model"]  # nothing temporary is left
    names = sorted(path.name for path in (tmp_path / "deep" / "model").iterdir())
    assert names == ["catalog.parquet", "model.safetensors", "recommender.json"]
    saved = load_recommender_settings(tmp_path / "deep" / "model")
    assert (saved.kind, saved.settings) == ("markov", {"ties": "popularity"})
    loaded = Recommender.from_pretrained(tmp_path / "deep" / "model")
    assert isinstance(loaded, Markov)
    assert loaded.ties == "popularity"


@pytest.mark.parametrize("name", sorted(set(REGISTRY["recommender"]) - {"llm"}))
def test_the_kind_is_the_registered_name(name: str) -> None:
    assert resolve("recommender", name).kind == name


def test_saving_again_replaces_the_model_and_keeps_other_files(tmp_path: Path) -> None:
    Popularity().fit(*train()).save_pretrained(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    other = Popularity().fit(*train([["e"], ["e"]]))
    other.save_pretrained(tmp_path)
    best = Popularity.from_pretrained(tmp_path).recommend([np.empty(0, np.int32)], k=1)
    assert best.rows.tolist() == [[4]]
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_failed_save_leaves_the_old_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Popularity().fit(*train()).save_pretrained(tmp_path / "model")

    def full_disk(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(scoring.pq, "write_table", full_disk)
    with pytest.raises(OSError, match="no space"):
        Popularity().fit(*train([["e"]])).save_pretrained(tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    best = Popularity.from_pretrained(tmp_path / "model").recommend([np.empty(0, np.int32)], k=1)
    assert best.rows.tolist() == [[0]]


def test_folders_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="does not describe a recommender"):
        Popularity.from_pretrained(tmp_path)
    Popularity().fit(*train()).save_pretrained(tmp_path)
    with pytest.raises(ArtifactError, match="holds a 'popularity' recommender"):
        Markov.from_pretrained(tmp_path)
    catalog = train()[1]
    scoring.pq.write_table(catalog.take(np.array([0, 1])).table, tmp_path / "catalog.parquet")
    with pytest.raises(ArtifactError, match="scores 5 items, the catalog beside it has 2"):
        Popularity.from_pretrained(tmp_path)
    scoring.save_file({"other": np.zeros(2)}, tmp_path / "model.safetensors")
    with pytest.raises(ArtifactError, match="log_probability"):
        Popularity.from_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"cut")
    with pytest.raises(ArtifactError, match="not a readable recommender"):
        Popularity.from_pretrained(tmp_path)
    (tmp_path / "recommender.json").write_text(json.dumps({"kind": "popularity"}))
    with pytest.raises(ArtifactError, match="settings"):
        load_recommender_settings(tmp_path)


def test_a_save_cut_off_while_replacing_is_refused_and_not_mixed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Popularity().fit(*train()).save_pretrained(tmp_path)
    replace = artifact.os.replace

    def die_at_the_model(source: Path, target: Path) -> None:
        if target.name == "model.safetensors":
            raise OSError("cut off")
        replace(source, target)

    monkeypatch.setattr(artifact.os, "replace", die_at_the_model)
    with pytest.raises(OSError, match="cut off"):
        Popularity().fit(*train([["e"]])).save_pretrained(tmp_path)
    with pytest.raises(ArtifactError, match="does not describe a recommender"):
        Popularity.from_pretrained(tmp_path)
