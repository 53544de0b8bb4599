"""Data sets that `datasets` loads, from a folder in place of the Hub: the same call."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llmrec.errors import DataError
from llmrec.registry import build
from llmrec.sources.hub import HubSource, HubTable

EVENTS = {"customer": ["ann", "ann", "bob"], "sku": [7, 12, 7], "bought_at": ["2024-06-01", "2024-05-31", "2024-06-01"]}
ITEMS = {"sku": [7, 12], "label": ["Pens &amp; Ink", "Tape"], "kind": ["Office", "Office"], "weight": [1.5, 2.0]}
COLUMNS = {"user": "customer", "item": "sku", "time": "bought_at", "title": "label"}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """As a repository with two configurations."""
    for config, table in (("events", EVENTS), ("items", ITEMS)):
        (tmp_path / "shop" / config).mkdir(parents=True)
        pq.write_table(pa.table(table), tmp_path / "shop" / config / "train-00000-of-00001.parquet")
    configs = "".join(f"- config_name: {name}\n  data_files: {name}/train-*\n" for name in ("events", "items"))
    (tmp_path / "shop" / "README.md").write_text(f"---\nconfigs:\n{configs}---\n")
    return tmp_path / "shop"


def source(repository: Path, **changes: object) -> HubSource:
    tables = {key: {"name": str(repository), "config": config} for key, config in
              (("interactions", "events"), ("items", "items"))}  # fmt: skip
    built = build("source", {"kind": "hub", **tables, "columns": COLUMNS, **changes}, "data")
    assert isinstance(built, HubSource)
    return built


def test_two_configurations_by_column_map(repository: Path) -> None:
    data = source(repository).load()
    assert data.catalog.record(0) == {"item_id": "7", "title": "Pens & Ink", "kind": "Office", "weight": 1.5}
    assert data.interactions.users.ids.to_pylist() == ["ann", "bob"]
    assert data.interactions.history(0).tolist() == [1, 0]


def test_files_by_their_kind(repository: Path) -> None:
    (repository / "more.csv").write_text("customer,sku,bought_at\ncid,12,2024-01-01\n")
    table = HubTable(name="csv", data_files=(str(repository / "more.csv"),))
    data = source(repository, interactions=table.settings()).load()
    assert data.interactions.users.ids.to_pylist() == ["cid"]


def test_the_fingerprint_is_of_the_content(repository: Path, tmp_path: Path) -> None:
    before = source(repository).fingerprint()
    moved = repository.rename(tmp_path / "moved")
    assert source(moved).fingerprint() == before
    changed = tmp_path / "changed"
    shutil.copytree(moved, changed)
    pq.write_table(pa.table({**ITEMS, "label": ["Pens", "Tape"]}), changed / "items" / "train-00000-of-00001.parquet")
    assert source(changed).fingerprint() != before


def test_what_cannot_be_loaded_says_which(repository: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data.items: .* cannot be loaded: .*Check name, config, split and revision"):
        source(repository, items={"name": str(repository), "config": "item"}).load()
    with pytest.raises(DataError, match=r"data.interactions: .*/nowhere' cannot be loaded"):
        source(repository, interactions={"name": str(tmp_path / "nowhere")}).load()
    with pytest.raises(DataError, match=r"Did you mean 'customer'"):
        source(repository, columns={**COLUMNS, "user": "custmer"}).load()
