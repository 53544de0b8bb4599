"""The page's other question: what one wants, said in words."""

from __future__ import annotations

import json
import re
import shlex

import httpx2
import pytest
from playwright.sync_api import expect
from serving.browser import Visit, served
from serving.shop import HOSTILE, make_recommender, make_service

from llmrec.recommenders.llm import LLMRecommender
from llmrec.serving.problems import answer, overloaded


def found(recommender: LLMRecommender, text: str, *rows: int, k: int = 10) -> list[str]:
    """Ids of the model's own answer; among some rows where they are given."""
    best = recommender.search(text, k, candidates=None if not rows else list(rows)).rows[0]
    return [f"i{row}" for row in best if row >= 0]


def test_what_is_said_is_answered_in_the_same_list(visit: Visit, recommender: LLMRecommender) -> None:
    before = visit.ids()
    visit.say("a lamp that folds")
    assert visit.ids() == found(recommender, "a lamp that folds")
    expect(visit.page.get_by_role("heading", name="Found", exact=True)).to_be_visible()
    expect(visit.page.locator("#legend")).to_contain_text("log p(item | request) in nats")
    expect(visit.page.get_by_role("status")).to_contain_text("10 items")
    expect(visit.page.locator("#about li")).to_have_count(3)  # no price
    visit.page.fill("#query", "")
    assert visit.ids() == before
    expect(visit.page.get_by_role("heading", name="Recommendations", exact=True)).to_be_visible()
    expect(visit.page.locator("#legend")).to_contain_text("log p(item | history) in nats")


def test_the_price_that_was_read_is_shown_and_holds(visit: Visit, recommender: LLMRecommender) -> None:
    visit.say("a lamp under 9 dollars")
    assert visit.ids() == found(recommender, "a lamp under 9 dollars", 1, 2, 3, 4, 5)
    expect(visit.page.locator("#about")).to_contain_text("price < 9")
    expect(visit.page.get_by_role("status")).to_contain_text("5 items, price < 9")
    visit.filter("brand", "Alba")
    assert set(visit.ids()) == {"i1", "i3", "i5"}
    visit.say("a lamp over 90 dollars")
    expect(visit.page.locator("#nothing")).to_have_text("No item passes the filter and price > 90.")
    expect(visit.items).to_have_count(0)


def test_history_options_and_words_go_together(visit: Visit, recommender: LLMRecommender) -> None:
    visit.add(recommender.catalog.title(6))
    visit.page.fill("#k", "30")
    visit.say("a lamp")
    assert set(visit.ids()) == {f"i{row}" for row in range(30)} - {"i6"}
    visit.page.get_by_label("Leave out the history").uncheck()
    assert visit.ids() == found(recommender, "a lamp", k=30)
    visit.add(recommender.catalog.title(12))  # who changes the history asks by it
    expect(visit.page.get_by_role("heading", name="Recommendations", exact=True)).to_be_visible()
    expect(visit.page.locator("#query")).to_have_value("")
    assert '"history":["i6","i12"]' in visit.asked()


def test_it_works_by_keyboard_and_has_a_name(visit: Visit, recommender: LLMRecommender) -> None:
    field = visit.page.get_by_label("Or say what you want")
    expect(field).to_be_visible()
    visit.page.get_by_role("combobox", name="Add an item").focus()
    visit.page.keyboard.press("Tab")
    expect(field).to_be_focused()
    visit.page.keyboard.type("a rug")
    visit.page.keyboard.press("Tab")
    expect(visit.page.get_by_role("button", name="Find", exact=True)).to_be_focused()
    visit.page.keyboard.press("Enter")
    expect(visit.page.get_by_role("heading", name="Found", exact=True)).to_be_visible()
    assert visit.ids() == found(recommender, "a rug")
    field.press("Escape")
    field.press("Enter")
    expect(visit.page.get_by_role("heading", name="Recommendations", exact=True)).to_be_visible()


def test_more_about_a_found_item(visit: Visit) -> None:
    visit.say("a lamp")
    expect(visit.page.get_by_role("heading", name="Found", exact=True)).to_be_visible()
    first = visit.ids()[0]
    more = visit.why(0)
    expect(more.locator(".chips")).to_contain_text("brand")
    expect(more.locator(".path, .nearest")).to_have_count(0)
    expect(more).not_to_contain_text("no item codes")
    more.get_by_role("button", name=re.compile("Add .* to the history")).click()
    assert visit.history_ids() == [first]
    expect(visit.page.get_by_role("heading", name="Recommendations", exact=True)).to_be_visible()


def test_the_command_asks_for_what_is_shown(visit: Visit) -> None:
    visit.say("it's a lamp under $20")  # quotes and signs must survive the shell
    expect(visit.page.locator("#about")).to_contain_text("price < 20")
    shown = visit.ids()
    words = shlex.split(visit.asked().replace("\\\n", " "))
    assert words[2].endswith("/v1/search")
    header, value = words[words.index("-H") + 1].split(": ")
    body = words[words.index("-d") + 1]
    assert json.loads(body) == {"query": "it's a lamp under $20", "k": 10}
    answered = httpx2.post(words[2], content=body, headers={header: value}).json()
    assert [item["item_id"] for item in answered["items"]] == shown


def test_nothing_that_is_said_becomes_markup(visit: Visit) -> None:
    visit.say(f"{HOSTILE} under 20 dollars")
    expect(visit.page.locator("#about")).to_contain_text("price < 20")
    expect(visit.page.locator("img")).to_have_count(0)
    expect(visit.page).to_have_title("shop \u00b7 llmrec")


def test_a_busy_server_is_asked_again(visit: Visit, recommender: LLMRecommender) -> None:
    made = answer(overloaded(3600))
    headers = {name: value for name, value in made.headers.items() if name != "content-length"}
    visit.page.route(
        "**/v1/search",
        lambda route: route.fulfill(status=made.status_code, headers=headers, body=bytes(made.body)),
        times=1,
    )
    visit.say("a lamp")
    expect(visit.problem).to_contain_text("The server is busy")
    visit.page.press("#query", "Enter")
    assert visit.ids() == found(recommender, "a lamp")
    expect(visit.problem).to_be_hidden()


def test_a_model_that_was_not_taught_is_not_asked(empty_tab: Visit) -> None:
    with served(make_service(make_recommender(search=None))) as address:
        empty_tab.page.goto(address)
        assert len(empty_tab.ids()) == 10
        expect(empty_tab.page.locator("#ask")).to_be_hidden()
        expect(empty_tab.page.get_by_text("say what you want")).to_be_hidden()
        empty_tab.page.goto("about:blank")


@pytest.mark.parametrize("width", [320, 390, 1280])
def test_nothing_sticks_out(visit: Visit, width: int) -> None:
    visit.page.set_viewport_size({"width": width, "height": 800})
    visit.say("a lamp of a very long name, or a rug, between 3 and 30 dollars")
    expect(visit.page.locator("#about")).to_contain_text("price >= 3 and price <= 30")
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= width
