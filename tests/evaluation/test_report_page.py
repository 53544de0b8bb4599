"""The report: who is first and how sure that is, every number where it belongs, and nothing from outside as markup."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from indexes.test_inspect_page import HOSTILE, Page
from playwright.sync_api import Browser
from serving.browser import chromium

from llmrec.data.catalog import Catalog
from llmrec.data.split import leave_one_out
from llmrec.errors import DataError
from llmrec.evaluation.beyond_accuracy import ItemFacts
from llmrec.evaluation.describe import describe
from llmrec.evaluation.report_page import leaderboard, markdown_table, published, render_report
from llmrec.evaluation.run import Run, measure
from llmrec.evaluation.significance import paired
from llmrec.pages.plots import Points, calibration_plot, groups_plot, intervals_plot, scatter_plot
from llmrec.recommenders.markov import Markov
from llmrec.recommenders.popularity import Popularity
from llmrec.sources.synthetic import SyntheticSource


@pytest.fixture(scope="module")
def runs() -> list[Run]:
    """Popularity first, though Markov is better."""
    dataset = SyntheticSource(users=120, items=30).load()
    split = leave_one_out(dataset.interactions)
    facts = ItemFacts.of(split.train, dataset.catalog, "category")
    found = []
    for name, recommender in {"popular": Popularity(), "chain": Markov()}.items():
        fitted = recommender.fit(split.train, dataset.catalog)
        known = {"kind": recommender.kind, "parameters": 30, "bytes": 120, "milliseconds_alone": 0.5}
        run = measure(name, fitted, split.test, (5, 10), facts=known, split=split.protocol, progress=False)
        found.append(replace(run, evaluation=describe(run.evaluation, split.test, facts, samples=100)))
    return found


def data_of(page: str) -> Any:
    return json.loads(Page(page).texts["script"][0])


def test_the_best_stands_first_and_is_compared_question_by_question(runs: list[Run]) -> None:
    page = render_report(runs)
    assert page.index(">chain<") < page.index(">popular<")
    chain, popular = runs[1], runs[0]
    first, second = leaderboard([chain, popular])
    assert (first["name"], first["p"]) == ("chain", None)
    test = paired(chain.values("ndcg@10"), popular.values("ndcg@10"), chain.examples.users)
    assert second["behind"] == (test.difference, test.low, test.high)
    assert second["p"] == pytest.approx(test.p_value)
    assert f"{chain.evaluation.metrics['ndcg@10']:.4f}" in page
    assert chain.evaluation.protocol in page


def test_the_cost_is_that_of_the_seconds(runs: list[Run]) -> None:
    slow = replace(runs[1], evaluation=replace(runs[1].evaluation, seconds=12.0))  # 120 users: 0.1 s each
    (row,) = leaderboard([slow], price_per_hour=3.6)
    assert row["cost"] == pytest.approx(0.1)
    assert row["users_per_second"] == pytest.approx(10)
    assert "1,000 users" in render_report([slow], price_per_hour=3.6)
    assert "1,000 users" not in render_report([slow])


def test_users_are_shown_with_their_lists_and_those_who_differ_first(runs: list[Run]) -> None:
    data = data_of(render_report(runs))
    assert data["names"] == ["chain", "popular"]
    by_user = {user["user"]: user for user in data["users"]}
    assert len(by_user) == 120
    for number in range(5):
        shown = by_user[int(runs[0].examples.users[number])]
        assert shown["lists"] == [runs[1].evaluation.rows[number].tolist(), runs[0].evaluation.rows[number].tolist()]
        assert shown["targets"] == runs[0].examples.targets[number].tolist()
        assert shown["ranks"] == [int(run.evaluation.ranks[number]) for run in (runs[1], runs[0])]
    differ = [min(user["ranks"]) == 0 < max(user["ranks"]) for user in data["users"]]
    assert differ == sorted(differ, reverse=True)
    assert any(differ)
    assert data["items"]["3"] == runs[0].catalog.title(3)


def test_a_model_that_states_probabilities_is_checked(runs: list[Run]) -> None:
    page = render_report(runs)
    assert "Do stated probabilities hold?" in page
    assert "Do stated probabilities hold?" not in render_report([runs[1]])  # counts are no probabilities


def test_lines_of_papers_are_marked_as_another_protocol(runs: list[Run]) -> None:
    page = render_report(runs, data="amazon14_beauty")
    assert "another protocol" in page
    assert "TIGER" in page
    assert "TIGER" not in render_report(runs, data="my_shop")
    for known in published().values():
        assert known["protocol"]
        assert all(0 < value < 1 for line in known["lines"] for name, value in line.items() if name != "model")


def test_the_table_for_a_card(runs: list[Run]) -> None:
    head, rule, first, second, empty, words = markdown_table(runs).splitlines()[:6]
    assert head.startswith("| model | ndcg@10 | hr@10 |")
    assert {line.count("|") for line in (head, rule, first, second)} == {7}
    assert first.startswith("| chain | 0.")
    assert not empty
    assert words.startswith("Protocol: leave-one-out")


def test_nothing_from_outside_becomes_markup(runs: list[Run]) -> None:
    titles = [HOSTILE] * 30
    catalog = Catalog(pa.table({"item_id": [f"i{row}" for row in range(30)], "title": titles}))
    slices = {"category": [{**row, "slice": HOSTILE} for row in runs[0].evaluation.slices["category"]]}
    evaluation = replace(runs[0].evaluation, slices={**runs[0].evaluation.slices, **slices}, protocol=HOSTILE)
    hostile = replace(runs[0], name=HOSTILE, catalog=catalog, evaluation=evaluation)
    page = Page(render_report([hostile], data=HOSTILE, currency=HOSTILE, price_per_hour=1))
    plain = Page(render_report([runs[0]], data="x", price_per_hour=1))
    kinds = {tag for tag, _ in page.elements}
    assert kinds <= {tag for tag, _ in plain.elements} | {"ol", "li"}
    assert page.count("script") == 2
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    assert not any({"src", "href", "action", "style"} & set(attributes) for _, attributes in page.elements)


def test_runs_that_cannot_be_compared_are_refused(runs: list[Run]) -> None:
    with pytest.raises(DataError, match="nothing to report"):
        render_report([])
    with pytest.raises(DataError, match="two runs are called 'chain'"):
        render_report([runs[1], runs[1]])
    with pytest.raises(DataError, match="answer different questions"):
        render_report([runs[0], replace(runs[1], questions="other")])


def test_plots_stand_inside_of_their_frame_and_without_values_say_so() -> None:
    some = Points("a", [0.1, None, 0.3], [0.05, None, 0.2], [0.2, None, 0.5])
    drawn = [
        intervals_plot([Points("a", [0.1], [0.05], [0.2])], "t"),
        groups_plot(["x", "y", "z"], [some], "t", "x"),
        scatter_plot([("a", 0.01, 0.1), ("b", 900.0, 0.2)], "t", "x"),
        calibration_plot([("a", (0.01, 0.2), (0.02, 0.1))], "t"),
    ]
    for svg in drawn:
        page = Page(svg)
        width, height = map(float, dict(page.elements)["svg"]["viewbox"].split()[2:])
        circles = [attributes for tag, attributes in page.elements if tag == "circle"]
        assert circles
        assert all(0 < float(c["cx"]) < width and 0 < float(c["cy"]) < height for c in circles)
    for nothing in (intervals_plot([], "t"), groups_plot([], [], "t", "x"), calibration_plot([], "t")):
        assert "Nothing was measured" in nothing
    assert "Nothing was measured" in scatter_plot([], "t", "x")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as made:
        yield made


@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_fits_the_screen_and_users_can_be_walked_through(
    runs: list[Run], browser: Browser, tmp_path: Path, width: int
) -> None:
    file, complaints = tmp_path / "report.html", list[str]()
    file.write_text(render_report(runs, price_per_hour=0.2))
    page = browser.new_page(viewport={"width": width, "height": 800})
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda line: complaints.append(line.text))
    page.on("request", lambda request: complaints.append(request.url) if "file:" not in request.url else None)
    page.goto(file.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    first = page.locator("#place").inner_text()
    page.click("#next")
    assert page.locator("#place").inner_text() != first
    page.select_option("#which", "differ")
    headings = page.locator("#user h3").all_inner_texts()
    assert headings[0].startswith("History")
    assert sum("missed" in heading for heading in headings) == 1
    page.select_option("#which", "0")
    assert "chain: place" in page.locator("#user h3").all_inner_texts()[1]
    assert page.locator("#user li.hit").count() == 1
    page.close()
    assert complaints == []


def test_what_is_drawn_does_not_depend_on_numbers_that_are_not_there(runs: list[Run]) -> None:
    bare = replace(runs[0], facts={}, evaluation=replace(runs[0].evaluation, intervals={}, slices={}, popularity={}))
    page = Page(render_report([bare, replace(runs[1], facts={})]))
    assert np.isclose(page.count("circle"), 4)  # two plots of two models
