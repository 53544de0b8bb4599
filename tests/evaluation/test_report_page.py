"""The report: who is first and how sure that is, every number where it belongs, and nothing from outside as markup."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from indexes.test_inspect_page import HOSTILE, Page
from playwright.sync_api import Browser
from serving.browser import chromium

from llmrec.data.catalog import Catalog
from llmrec.data.split import leave_one_out
from llmrec.errors import DataError
from llmrec.evaluation import report_page
from llmrec.evaluation.beyond_accuracy import ItemFacts
from llmrec.evaluation.describe import describe
from llmrec.evaluation.leaderboard import leaderboard, markdown_table
from llmrec.evaluation.published import every, published
from llmrec.evaluation.report_page import render_report
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
        stated = fitted.log_probabilities
        evaluation = describe(run.evaluation, split.test, facts, samples=100, log_probabilities=stated)
        found.append(replace(run, evaluation=evaluation))
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


def test_lines_of_papers_are_marked_as_another_protocol(runs: list[Run], monkeypatch: pytest.MonkeyPatch) -> None:
    named = [replace(run, facts={**run.facts, "data": "amazon14_beauty"}) for run in runs]
    assert "TIGER" not in render_report(named)  # 30 items are not that data set, whatever its name
    lines = published("amazon14_beauty", 12_101)
    monkeypatch.setattr(report_page, "published", lambda data, items: lines if (data, items) == known else {})
    known = ("amazon14_beauty", 30)
    page = render_report(named)
    assert "another protocol" in page
    assert all(str(line["hr@10"]) in page for line in lines["lines"])
    assert "TIGER" not in render_report(runs)


def test_every_published_line_says_its_source_and_protocol() -> None:
    assert {"amazon14_beauty", "amazon18_industrial_minionerec"} <= set(every())
    for data, known in every().items():
        assert known["protocol"]
        assert published(data, known["items"]) is known
        assert published(data, known["items"] + 1) == {}
        for line in known["lines"]:
            assert line["source"]
            assert all(0 < line[name] < 1 for name in set(line) - {"model", "source"})
    assert published("my_shop", 30) == {}


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
    said = {**runs[0].facts, "data": HOSTILE, "machine": HOSTILE}
    hostile = replace(runs[0], name=HOSTILE, catalog=catalog, evaluation=evaluation, facts=said)
    page = Page(render_report([hostile], currency=HOSTILE, price_per_hour=1))
    plain = Page(render_report([runs[0]], price_per_hour=1))
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
    page.select_option("#which", "all")
    page.fill("#find", "no such title")
    assert "No such user" in page.locator("#place").inner_text()
    asked = int(runs[0].examples.users[7])
    page.fill("#find", str(asked))
    assert page.locator("#place").inner_text() == f"1 of 1: user {asked}"
    page.fill("#find", "")
    page.select_option("#which", "0")
    assert "chain: place" in page.locator("#user h3").all_inner_texts()[1]
    assert page.locator("#user li.hit").count() == 1
    page.close()
    assert complaints == []


def test_what_is_drawn_does_not_depend_on_numbers_that_are_not_there(runs: list[Run]) -> None:
    nothing: dict[str, Any] = {"intervals": {}, "slices": {}, "popularity": {}, "calibration": {}}
    bare = replace(runs[0], facts={}, evaluation=replace(runs[0].evaluation, **nothing))
    page = Page(render_report([bare, replace(runs[1], facts={})]))
    assert page.count("circle") == 4  # of the leaderboard and of time, two models each


def test_slices_that_differ_are_not_drawn_as_one(runs: list[Run]) -> None:
    other = [{**row, "slice": f"other {row['slice']}"} for row in runs[1].evaluation.slices["category"]]
    slices = {**runs[1].evaluation.slices, "category": other}
    cut = replace(runs[1], evaluation=replace(runs[1].evaluation, slices=slices))
    assert "Of which kind was the answer?" in render_report(runs)
    assert "Of which kind was the answer?" not in render_report([runs[0], cut])


def test_the_best_of_each_slice_stands_out(runs: list[Run]) -> None:
    slicing = next(found for found in report_page._slices(runs, "ndcg@10") if "popular" in found["question"])
    for number, row in enumerate(slicing["rows"]):
        values = [run.evaluation.slices["target_popularity"][number]["metrics"]["ndcg@10"] for run in runs]
        assert row["values"] == values
        assert row["best"] == [place for place, value in enumerate(values) if value == max(values) > 0]


def test_runs_without_a_common_metric_are_refused(runs: list[Run]) -> None:
    metrics = {"hr@1": 0.5}
    other = replace(runs[1], evaluation=replace(runs[1].evaluation, metrics=metrics))
    with pytest.raises(DataError, match=r"no metric in common: popular has hr@5.*chain has hr@1.*evaluation.ks"):
        render_report([runs[0], other])


def test_a_name_is_no_markup_in_the_table(runs: list[Run]) -> None:
    table = markdown_table([replace(runs[0], name="a|b <b>")])
    assert table.splitlines()[2].startswith("| a\\|b \\<b\\> |")
