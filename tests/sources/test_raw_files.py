"""Published raw files in their own formats, written by hand."""

from __future__ import annotations

import gzip
import json
import logging
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llmrec.data.split import k_core
from llmrec.errors import DataError, RecipeError
from llmrec.registry import REGISTRY, build
from llmrec.sources.amazon_reviews import AmazonReviewsSource
from llmrec.sources.base import Dataset
from llmrec.sources.json_lines import iter_records
from llmrec.sources.raw import core_mask, text
from llmrec.sources.steam import SteamSource
from llmrec.sources.yelp import YelpSource


def write_lines(path: Path, lines: Iterable[str]) -> Path:
    content = "".join(f"{line}\n" for line in lines)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(content.encode()))
    else:
        path.write_text(content, encoding="utf8")
    return path


def write_json(path: Path, records: Iterable[dict[str, Any]]) -> Path:
    return write_lines(path, map(json.dumps, records))


def histories(data: Dataset) -> dict[str, list[str]]:
    events = data.interactions
    return {
        events.users[user]: [events.items[row] for row in events.history(user)] for user in range(len(events.users))
    }


def old_review(user: str, item: str, time: int, rating: float = 5.0, **more: Any) -> dict[str, Any]:
    written = {"reviewText": "Good,\nreally", "helpful": [0, 1], "reviewTime": "05 3, 2011"}
    return {"reviewerID": user, "asin": item, "overall": rating, "unixReviewTime": time, **written, **more}


# As in meta_Office_Products.json.gz of 2014: Python, not JSON.
META_2014 = [
    """{'asin': '0078800242', 'related': {'also_bought': ['B1']}, 'title': 'It\\'s a "Pen"', 'price': 7.5, """
    """'categories': [['Office Products', 'Pens'], ['Office Products', 'Gel']], 'brand': 'Uni'}""",
    """{'asin': 'B000TAPE01', 'description': 'Sticky &amp; clear', 'categories': [['Office Products']]}""",
    """{'asin': 'B00NOBODY1', 'title': 'Never taken', 'categories': [['Office Products']]}""",
]


@pytest.mark.parametrize("reviews", ["reviews_Office_Products_5.json.gz", "reviews_Office_Products.json"])
def test_amazon_2014(tmp_path: Path, reviews: str) -> None:
    pairs = [("ann", "B000TAPE01", 20), ("ann", "0078800242", 10), ("bob", "0078800242", 5), ("bob", "B000TAPE01", 6)]
    write_json(tmp_path / reviews, [old_review(*pair, reviewerName="x") for pair in pairs])
    write_lines(tmp_path / "meta_Office_Products.json.gz", META_2014)
    data = AmazonReviewsSource(
        root=tmp_path, category="Office_Products", year=2014, core=2, keep=("description",)
    ).load()
    assert histories(data) == {
        "ann": ["0078800242", "B000TAPE01"],
        "bob": ["0078800242", "B000TAPE01"],
    }
    assert data.catalog.record(0) == {
        "item_id": "0078800242",
        "title": 'It\'s a "Pen"',
        "brand": "Uni",
        "categories": "Office Products, Pens, Gel",
        "description": "",
    }
    assert data.catalog.title(1) == "(untitled item) Office Products, Sticky & clear"
    assert len(data.catalog) == 2


def test_amazon_2018_and_its_repetitions(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Reviews come twice, metadata too, and some items have none."""
    pairs = [("ann", "B1", 1), ("ann", "B1", 1), ("ann", "B2", 2), ("bob", "B1", 3), ("bob", "B2", 4), ("bob", "B9", 5)]
    reviews = [old_review(*pair, verified=True, style={"Color:": " Red"}) for pair in pairs]
    write_json(tmp_path / "Office_Products_5.json.gz", [*reviews, {"asin": "B1", "overall": 5}])
    write_json(
        tmp_path / "meta_Office_Products.json.gz",
        [
            {"asin": "B1", "title": "Pen", "brand": "Uni", "category": ["Office", "Pens"], "description": ["a", "b"]},
            {"asin": "B2", "title": "Tape", "brand": "", "category": [], "description": ""},
            {"asin": "B1", "title": "Pen, again", "brand": "Uni", "category": ["Office"], "price": "$5"},
        ],
    )
    source = AmazonReviewsSource(root=tmp_path, category="Office_Products", year=2018, core=1, keep=("description",))
    with caplog.at_level(logging.WARNING):
        data = source.load()
    assert histories(data) == {"ann": ["B1", "B2"], "bob": ["B1", "B2"]}
    assert data.catalog.table["title"].to_pylist() == ["Pen", "Tape"]
    assert data.catalog.table["description"].to_pylist() == ["a, b", ""]
    assert "1 lines lack user, item or time" in caplog.text
    assert "1 of 6 events are on unknown items" in caplog.text


def test_amazon_2023(tmp_path: Path) -> None:
    def review(user: str, item: str, time: int) -> dict[str, Any]:
        more = {"title": "Nice", "text": "", "images": [], "asin": f"{item}-red", "helpful_vote": 0}
        return {"rating": 4.0, "parent_asin": item, "user_id": user, "timestamp": time, **more}

    write_json(
        tmp_path / "All_Beauty.jsonl.gz", [review("ann", "B1", 1588687728923), review("ann", "B2", 1588687728922)]
    )
    meta = {"main_category": "All Beauty", "average_rating": 4.8, "features": ["Soft", "Warm"], "price": None}
    write_json(
        tmp_path / "meta_All_Beauty.jsonl.gz",
        [
            {"parent_asin": "B1", "title": "Brush", "store": "Yes To", "categories": ["Beauty"], **meta},
            {"parent_asin": "B2", "title": "Comb", "store": None, "categories": [], **meta},
        ],
    )
    data = AmazonReviewsSource(root=tmp_path, category="All_Beauty", year=2023, core=1, keep=("features",)).load()
    assert histories(data) == {"ann": ["B2", "B1"]}
    assert data.catalog.record(0) == {
        "item_id": "B1",
        "title": "Brush",
        "brand": "Yes To",
        "categories": "Beauty",
        "features": "Soft, Warm",
    }
    assert data.interactions.table["time"].to_pylist() == [1588687728922, 1588687728923]


def test_yelp(tmp_path: Path) -> None:
    def review(user: str, place: str, date: str) -> dict[str, Any]:
        return {"review_id": "r", "user_id": user, "business_id": place, "stars": 3.0, "text": "So-so", "date": date}

    write_json(
        tmp_path / "yelp_academic_dataset_review.json",
        [review("ann", "p1", "2018-07-07 22:09:11"), review("ann", "p2", "2012-01-03 15:28:18")],
    )
    place = {"address": "1 Road", "stars": 4.5, "attributes": None, "hours": {"Monday": "8:0-18:30"}}
    write_json(
        tmp_path / "yelp_academic_dataset_business.json.gz",
        [
            {
                "business_id": "p1",
                "name": "St Honore",
                "city": "York",
                "state": "PA",
                "categories": "Food, Tea",
                **place,
            },
            {"business_id": "p2", "name": "Zaika", "city": "Reno", "state": "NV", "categories": None, **place},
        ],
    )
    data = YelpSource(root=tmp_path, core=1).load()
    assert histories(data) == {"ann": ["p2", "p1"]}
    assert data.catalog.record(0) == {
        "item_id": "p1",
        "title": "St Honore",
        "city": "York",
        "state": "PA",
        "categories": "Food, Tea",
    }
    assert data.interactions.table["time"].to_pylist() == [1325604498000000, 1531001351000000]


def test_steam(tmp_path: Path) -> None:
    write_lines(
        tmp_path / "steam_reviews.json.gz",
        [
            """{u'username': u'Ch\\xf6mps', u'hours': 36.4, u'products': 41, u'product_id': u'725280', """
            """u'page_order': 0, u'date': u'2017-12-18', u'text': u'It\\'s "fun"'}""",
            """{u'username': u'Ch\\xf6mps', u'product_id': u'328100', u'date': u'2017-12-17', u'text': u''}""",
            """{u'username': u'', u'product_id': u'328100', u'date': u'2017-12-17'}""",
        ],
    )
    write_lines(
        tmp_path / "steam_games.json",
        [
            """{u'publisher': u'Kot', u'genres': [u'Action', u'Indie'], u'title': u'Lost Summoner', """
            """u'tags': [u'Strategy', u'Indie'], u'price': 4.99, u'id': u'725280', u'developer': u'Kot'}""",
            """{u'app_name': u'Ironbound', u'price': u'Free To Play', u'id': 328100, u'metascore': None}""",
        ],
    )
    data = SteamSource(root=tmp_path, core=1).load()
    assert histories(data) == {"Ch\u00f6mps": ["328100", "725280"]}
    assert data.catalog.record(0) == {
        "item_id": "725280",
        "title": "Lost Summoner",
        "developer": "Kot",
        "genres": "Action, Indie",
        "tags": "Strategy, Indie",
    }
    assert data.catalog.title(1) == "Ironbound"


def test_a_line_of_python_is_not_executed(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "x.json", ["{'a': 1}", f"__import__('os').mkdir({str(tmp_path / 'made')!r})"])
    records = iter_records(path)
    assert next(records) == {"a": 1}
    with pytest.raises(DataError, match=r"x\.json, row 1 "):
        next(records)
    assert not (tmp_path / "made").exists()


def test_the_core_is_that_of_the_split(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pairs = {(int(user), int(item)) for user, item in rng.integers(0, 60, (900, 2)) ** 2 // 60}
    reviews = [old_review(f"u{user}", f"i{item}", time) for time, (user, item) in enumerate(sorted(pairs))]
    write_json(tmp_path / "X.json", reviews)
    write_json(tmp_path / "meta_X.json", [{"asin": f"i{item}", "title": f"Item {item}"} for item in range(60)])
    whole = AmazonReviewsSource(root=tmp_path, category="X", year=2018, core=1).load()
    expected = k_core(whole.interactions, 9, 9)
    data = AmazonReviewsSource(root=tmp_path, category="X", year=2018, core=9).load()
    assert 0 < len(expected) < len(whole.interactions)
    assert histories(data) == histories(Dataset(whole.catalog, expected))
    assert set(data.catalog.items.ids.to_pylist()) == {item for items in histories(data).values() for item in items}
    with pytest.raises(DataError, match=r"Lower data\.core"):
        AmazonReviewsSource(root=tmp_path, category="X", year=2018, core=99).load()


def test_the_core_of_codes() -> None:
    users, items = np.array([0, 0, 1, 1, 2], np.int32), np.array([0, 1, 0, 1, 1], np.int32)
    assert core_mask(users, items, 2).tolist() == [True, True, True, True, False]
    assert core_mask(users, items, 1).all()
    assert not core_mask(users, items, 3).any()


def test_texts_in_lists() -> None:
    assert text([["Office", "Pens"], ["Office", "Gel"], None, 3]) == "Office, Pens, Gel"
    assert (text(""), text([]), text(None), text({"a": 1})) == (None, None, None, None)


def test_what_is_wrong_is_named(tmp_path: Path) -> None:
    source = AmazonReviewsSource(root=tmp_path, category="Office_Products", year=2018)
    with pytest.raises(DataError, match=r"none of Office_Products_5.json.gz, .* is in this folder"):
        source.load()
    write_lines(tmp_path / "Office_Products.json", ['{"reviewerID": "a", "asin": "b", "unixReviewTime": 1}', "{broken"])
    write_json(tmp_path / "meta_Office_Products.json", [{"asin": "c", "title": "Pen"}])
    with pytest.raises(DataError, match=r"Office_Products.json: a line cannot be read"):
        source.load()
    write_json(tmp_path / "Office_Products.json", [old_review("a", "b", 1)])
    with pytest.raises(DataError, match="none of the 1 items that were taken is described here"):
        AmazonReviewsSource(root=tmp_path, category="Office_Products", year=2018, core=1).load()
    (tmp_path / "meta_Office_Products.json.gz").write_bytes(gzip.compress(b'{"asin": "b", "title": "Pen"}\n' * 9)[:-12])
    with pytest.raises(DataError, match=r"meta_Office_Products\.json\.gz.*damaged"):
        AmazonReviewsSource(root=tmp_path, category="Office_Products", year=2018, core=1).load()
    with pytest.raises(RecipeError, match="2014, 2018 or 2023"):
        build("source", {"kind": "amazon_reviews", "root": ".", "category": "X", "year": 2019}, "data")
    with pytest.raises(DataError, match=r"yelp_academic_dataset_review.json"):
        YelpSource(root=tmp_path).load()
    with pytest.raises(DataError, match=r"steam_reviews.json.gz"):
        SteamSource(root=tmp_path).load()


def test_the_fingerprint_is_that_of_both_files(tmp_path: Path) -> None:
    write_json(tmp_path / "X.json", [old_review("a", "b", 1)])
    meta = write_json(tmp_path / "meta_X.json", [{"asin": "b", "title": "Pen"}])
    source = AmazonReviewsSource(root=tmp_path, category="X", year=2018)
    before = source.fingerprint()
    os.utime(meta)
    assert source.fingerprint() == before
    write_json(meta, [{"asin": "b", "title": "Tape"}])
    assert source.fingerprint() != before


def test_every_source_is_registered() -> None:
    assert {"amazon_reviews", "yelp", "steam", "hub", "movielens"} <= set(REGISTRY["source"])
