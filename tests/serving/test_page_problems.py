"""The page when something is in the way: a busy server, one with keys, one that is gone, and slow answers."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Route, expect
from serving.browser import Visit, served
from serving.shop import make_service

from llmrec.recommenders.llm import LLMRecommender
from llmrec.serving.keys import new_key
from llmrec.serving.problems import Problem, answer, overloaded

RECOMMEND = "**/v1/recommend"


def refuse(visit: Visit, problem: Problem, times: int = 1) -> None:
    """Answer so often as the server would answer with this problem, and then let it answer itself."""
    made = answer(problem)
    headers = {name: value for name, value in made.headers.items() if name != "content-length"}
    visit.page.route(
        RECOMMEND,
        lambda route: route.fulfill(status=made.status_code, headers=headers, body=bytes(made.body)),
        times=times,
    )


def test_a_busy_server_is_asked_again_when_it_said(visit: Visit) -> None:
    refuse(visit, overloaded(2))
    visit.page.fill("#k", "4")
    expect(visit.problem).to_contain_text("The server is busy")
    expect(visit.problem).to_contain_text("more requests than it can answer")
    expect(visit.problem).to_contain_text(re.compile(r"by itself in \d s"))
    expect(visit.items).to_have_count(4)  # which nobody asked for again
    expect(visit.problem).to_be_hidden()


def test_one_need_not_wait(visit: Visit) -> None:
    refuse(visit, overloaded(3600))
    visit.page.fill("#k", "4")
    visit.problem.get_by_role("button", name="Try again").click()
    expect(visit.items).to_have_count(4)
    expect(visit.problem).to_be_hidden()


def test_a_change_ends_the_waiting(visit: Visit) -> None:
    refuse(visit, overloaded(3600))
    visit.page.fill("#k", "4")
    expect(visit.problem).to_be_visible()
    visit.page.fill("#k", "5")
    expect(visit.items).to_have_count(5)
    expect(visit.problem).to_be_hidden()


def test_what_the_server_does_not_take_is_shown_in_its_words(visit: Visit) -> None:
    visit.filter("price", "cheap")
    expect(visit.problem).to_contain_text("The server did not take this")
    expect(visit.problem).to_contain_text("price")
    expect(visit.items).to_have_count(0)  # the old list does not answer this
    visit.page.get_by_role("button", name="Remove the filter price = cheap").click()
    expect(visit.items).to_have_count(10)


@pytest.mark.parametrize("k", ["0", "", "101", "2.5"])
def test_a_number_out_of_range_is_not_sent(visit: Visit, k: str) -> None:
    asked: list[str] = []
    visit.page.on("request", lambda request: asked.append(request.url))
    visit.page.fill("#k", k)
    expect(visit.problem).to_contain_text("Ask for 1 to 100 items")
    assert asked == []


def test_a_server_that_is_gone(visit: Visit) -> None:
    visit.page.route(RECOMMEND, lambda route: route.abort(), times=1)
    visit.page.fill("#k", "4")
    expect(visit.problem).to_contain_text("cannot be reached")
    visit.problem.get_by_role("button", name="Try again").click()
    expect(visit.items).to_have_count(4)


def test_an_answer_that_is_no_json(visit: Visit) -> None:
    visit.page.route(RECOMMEND, lambda route: route.fulfill(status=502, body="<h1>Bad Gateway</h1>"), times=1)
    visit.page.fill("#k", "4")
    expect(visit.problem).to_contain_text("status 502")


def test_a_late_answer_to_an_older_question_is_dropped(visit: Visit) -> None:
    held: list[Route] = []
    visit.page.route(RECOMMEND, lambda route: held.append(route), times=1)
    visit.page.fill("#k", "3")
    while not held:
        visit.page.wait_for_timeout(50)
    visit.page.fill("#k", "5")
    expect(visit.items).to_have_count(5)
    held[0].continue_()
    visit.page.wait_for_timeout(500)
    expect(visit.items).to_have_count(5)
    expect(visit.problem).to_be_hidden()


@pytest.fixture(scope="module")
def key() -> str:
    return new_key("page")[0]


@pytest.fixture(scope="module")
def locked(recommender: LLMRecommender, key: str) -> Iterator[str]:
    digest = hashlib.sha256(key.encode()).hexdigest()
    with served(make_service(recommender), keys={"page": digest}) as address:
        yield address


def give(visit: Visit, key: str) -> None:
    visit.page.get_by_label("API key").fill(key)
    visit.page.get_by_role("button", name="Use this key").click()


def test_the_page_asks_for_a_key_and_keeps_it_in_the_tab(empty_tab: Visit, locked: str, key: str) -> None:
    page = empty_tab.page
    page.goto(locked)
    dialog = page.get_by_role("dialog", name="This server asks for a key")
    expect(dialog).to_be_visible()
    expect(page.get_by_label("API key")).to_be_focused()
    give(empty_tab, "wrong")
    expect(page.locator("#key-reason")).to_contain_text("Give one of the server's keys")
    give(empty_tab, key)
    expect(empty_tab.items).to_have_count(10)
    expect(dialog).to_be_hidden()
    assert page.evaluate("Object.values(sessionStorage)") == [key]
    assert page.evaluate("[localStorage.length, document.cookie, location.href]") == [0, "", locked]
    assert "Bearer $LLMREC_API_KEY" in empty_tab.asked()
    assert key not in page.content()
    page.reload()
    expect(empty_tab.items).to_have_count(10)  # without asking again
    other = Visit(page.context.new_page())
    other.page.goto(locked)
    expect(other.page.get_by_role("dialog")).to_be_visible()  # a key stays in its tab


def test_without_a_key_nothing_is_shown_but_how_to_go_on(empty_tab: Visit, locked: str, key: str) -> None:
    empty_tab.page.goto(locked)
    empty_tab.page.get_by_role("button", name="Cancel").click()
    expect(empty_tab.problem).to_contain_text("A key is needed")
    expect(empty_tab.items).to_have_count(0)
    empty_tab.problem.get_by_role("button", name="Try again").click()
    give(empty_tab, key)
    expect(empty_tab.items).to_have_count(10)


@pytest.mark.parametrize("text", ["two words", "schl\u00fcssel"])
def test_what_cannot_be_a_key_is_not_sent(empty_tab: Visit, locked: str, text: str) -> None:
    sent: list[str] = []
    empty_tab.page.goto(locked)
    expect(empty_tab.page.get_by_role("dialog")).to_be_visible()
    empty_tab.page.on("request", lambda request: sent.append(request.url))
    give(empty_tab, text)
    expect(empty_tab.page.get_by_role("dialog")).to_be_visible()
    assert sent == []
