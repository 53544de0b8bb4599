"""What people read: aligned plain text, the protocol below it, titles that cannot steer a terminal."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from llmrec.data.catalog import Catalog
from llmrec.errors import DataError
from llmrec.evaluation.protocol import Evaluation
from llmrec.evaluation.report import comparison_table, print_comparison, print_user
from llmrec.types import ScoredItems

MODEL = Evaluation(
    metrics={"hr@10": 0.0812, "ndcg@10": 0.04567},
    protocol="leave-one-out; full ranking over 9 items",
    examples=5,
    users=5,
    invalid=0,
    duplicates=0,
    excluded_returned=0,
    unfilled=0,
    unreachable=0,
    exact=5,
    seconds=1.0,
)
POPULARITY = replace(MODEL, metrics={"hr@10": 0.0012, "ndcg@10": 0.0004})


def test_table_has_one_aligned_line_a_recommender_and_the_protocol() -> None:
    text = comparison_table({"model": MODEL, "popularity": POPULARITY})
    assert text.splitlines()[:3] == [
        "             hr@10  ndcg@10",
        "model       0.0812   0.0457",
        "popularity  0.0012   0.0004",
    ]
    assert text.count("Protocol: leave-one-out; full ranking over 9 items.") == 1
    assert "No faults" in text


def test_table_shows_a_dash_for_a_metric_that_was_not_measured() -> None:
    text = comparison_table({"model": MODEL, "short": replace(MODEL, metrics={"hr@10": 0.5})})
    assert text.splitlines()[2].split() == ["short", "0.5000", "-"]


def test_table_says_which_lists_were_faulty() -> None:
    text = comparison_table({"model": replace(MODEL, invalid=1234, unfilled=2), "popularity": POPULARITY})
    assert "model returned: 1,234 invalid, 2 unfilled." in text
    assert "popularity returned" not in text
    assert "No faults" not in text


def test_table_says_when_a_search_may_have_missed_items() -> None:
    text = comparison_table({"model": replace(MODEL, exact=3), "popularity": POPULARITY})
    assert "model: 3 of 5 lists are proven to be its true best." in text
    assert "popularity: " not in text


def test_table_says_how_sure_it_is_where_that_is_known() -> None:
    sure = replace(MODEL, intervals={"hr@10": [0.07, 0.09], "ndcg@10": [0.0401, 0.0512], "mrr@10": [0.03, 0.04]})
    text = comparison_table({"model": sure, "popularity": POPULARITY})
    assert "95% intervals of ndcg@10, users drawn: model 0.0401 to 0.0512." in text
    assert "95%" not in comparison_table({"model": MODEL})


def test_table_warns_when_protocols_differ() -> None:
    other = replace(POPULARITY, protocol="global temporal")
    text = comparison_table({"model": MODEL, "popularity": other})
    assert "Protocol of model: leave-one-out; full ranking over 9 items." in text
    assert "Protocol of popularity: global temporal." in text
    assert "do not compare" in text


def test_nothing_to_compare_is_refused() -> None:
    with pytest.raises(DataError, match="no evaluation"):
        comparison_table({})


def test_a_file_gets_the_plain_table() -> None:
    out = io.StringIO()
    print_comparison({"model": MODEL, "popularity": POPULARITY}, out)
    assert out.getvalue() == comparison_table({"model": MODEL, "popularity": POPULARITY}) + "\n"


def test_a_terminal_gets_the_same_numbers_and_notes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    out = io.StringIO()
    print_comparison({"model": MODEL, "popularity": POPULARITY}, out)
    text = out.getvalue()
    assert "\x1b[1m0.0812" in text  # the best value is bold
    assert "\x1b[1m0.0012" not in text
    assert "Protocol: leave-one-out" in text


def user_page(titles: list[str], history: list[int], rows: list[int], **more: object) -> list[str]:
    catalog = Catalog(pa.table({"item_id": [f"i{row}" for row in range(len(titles))], "title": titles}))
    scores = np.where(np.asarray(rows) < 0, -np.inf, -np.arange(len(rows), dtype=np.float32) - 0.5)
    answer = ScoredItems(np.array([rows], np.int32), scores[None].astype(np.float32))
    out = io.StringIO()
    print_user(catalog, np.array(history, np.int32), answer, file=out, **more)
    return out.getvalue().splitlines()


def test_user_page_shows_history_and_scored_titles() -> None:
    lines = user_page(["Pen", "Lamp", "Chair"], [2, 0], [1, -1], targets=np.array([1]))
    assert lines == [
        "History, oldest first (2 items)",
        "      Chair",
        "      Pen",
        "Recommended",
        "   1  Lamp  (-0.500)  <- taken next",
    ]


def test_user_page_cuts_a_long_history_and_names_missed_targets() -> None:
    lines = user_page(["Pen", "Lamp", "Chair"], [1, 1, 0], [1], targets=np.array([2]), longest_history=1)
    assert lines[1:3] == ["      ... 2 earlier", "      Pen"]
    assert lines[-2:] == ["Taken next, not recommended", "      Chair"]


def test_titles_are_text_and_not_control() -> None:
    lines = user_page(["[bold]Pen[/bold] :smile:", "\x1b[31mRed\nlamp", ""], [0], [1, 2])
    assert lines[1] == "      [bold]Pen[/bold] :smile:"
    assert lines[3] == "   1  [31mRed lamp  (-0.500)"
    assert lines[4] == "   2  (no title, id i2)  (-1.500)"
