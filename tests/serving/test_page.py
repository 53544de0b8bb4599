"""The page at `/`, used as a person would, in a headless Chromium before the real server."""

from __future__ import annotations

import json
import re
import shlex

import httpx2
import numpy as np
import pyarrow as pa
import pytest
from playwright.sync_api import Browser, expect
from serving.browser import Visit, served
from serving.shop import HOSTILE, make_catalog, make_service

from llmrec.data.interactions import Interactions
from llmrec.recommenders.llm import LLMRecommender
from llmrec.recommenders.markov import Markov
from llmrec.recommenders.popularity import Popularity
from llmrec.types import ScoredItems


def titles_of(recommender: LLMRecommender, *rows: int) -> list[str]:
    return [recommender.catalog.title(row) for row in rows]


def best_of(recommender: LLMRecommender, *rows: int, k: int = 10) -> ScoredItems:
    return recommender.recommend([np.array(rows, np.int32)], k)


def ids_of(best: ScoredItems) -> list[str]:
    return [f"i{row}" for row in best.rows[0]]


def number(text: str) -> float:
    return float(text.replace("\u2212", "-"))


def test_two_items_are_searched_and_added_and_the_list_is_the_models(visit: Visit, recommender: LLMRecommender) -> None:
    first, second = titles_of(recommender, 6, 12)
    expect(visit.page.locator("#history-empty")).to_be_visible()
    assert visit.ids() == ids_of(best_of(recommender))
    visit.add(first)
    assert second in visit.search("LAMP")
    visit.page.get_by_role("option", name=second).click()
    assert visit.history.locator(".title").all_inner_texts() == [first, second]

    best = best_of(recommender, 6, 12)
    assert visit.ids() == ids_of(best)
    assert visit.items.locator(".line .title").all_inner_texts() == titles_of(recommender, *best.rows[0])
    assert visit.items.locator(".line .number").all_inner_texts() == [
        f"{score:.2f}".replace("-", "\u2212") for score in best.scores[0]
    ]
    widths = visit.items.locator(".bar.score span").evaluate_all("bars => bars.map(bar => parseFloat(bar.style.width))")
    assert widths == pytest.approx((100 * np.exp(best.scores[0] - best.scores[0, 0])).tolist(), abs=0.02)
    facts = visit.page.locator("#about li").all_inner_texts()
    assert facts[:2] == ["exact" if best.exact[0] else "not proven", "catalog 1"]
    assert re.fullmatch(r"[\d,]+ ms", facts[2])
    expect(visit.page.get_by_role("status")).to_contain_text("10 recommendations")


def test_why_shows_the_code_path_and_the_nearest_items(visit: Visit, recommender: LLMRecommender) -> None:
    for title in titles_of(recommender, 6, 12):
        visit.add(title)
    best = best_of(recommender, 6, 12)
    title = visit.items.nth(1).locator(".line .title")
    expect(title).to_have_attribute("aria-expanded", "false")
    why = visit.why(1)
    expect(title).to_have_attribute("aria-expanded", "true")
    items = recommender.task.items
    tokens = items.tokenizer.convert_ids_to_tokens(items.encode(int(best.rows[0, 1])))
    assert why.locator(".step code").all_inner_texts() == tokens
    said = [number(text) for text in why.locator(".step .values span").all_inner_texts()]
    assert sum(said) == pytest.approx(float(best.scores[0, 1]), abs=0.02)
    widths = why.locator(".bar.p span").evaluate_all("bars => bars.map(bar => parseFloat(bar.style.width))")
    assert widths == pytest.approx(100 * np.exp(said), rel=0.01)
    expect(why.locator(".chips")).to_contain_text("brand")
    title.click()
    expect(why).to_be_hidden()


def test_nearest_items_come_with_shared_levels_and_likeness(visit: Visit, recommender: LLMRecommender) -> None:
    codes = recommender.task.items.index.codes
    best = best_of(recommender, 6, 12, 18, k=20)
    for title in titles_of(recommender, 6, 12, 18):
        visit.add(title)
    visit.page.fill("#k", "20")
    visit.settle()
    place = next(place for place, row in enumerate(best.rows[0]) if codes[row, 0] in codes[[6, 12, 18], 0])
    nearest = visit.why(place).locator(".nearest li").first
    shared = max((codes[best.rows[0, place]] == codes[row]).cumprod().sum() for row in (6, 12, 18))
    expect(nearest.locator(".dots .on")).to_have_count(int(shared))
    expect(nearest.get_by_role("img", name=f"{shared} of {codes.shape[1]} levels shared")).to_be_visible()
    expect(nearest.locator(".number")).to_have_text(re.compile(r"\d\.\d\d"))


def test_the_history_is_moved_removed_and_cleared(visit: Visit, recommender: LLMRecommender) -> None:
    titles = titles_of(recommender, 1, 2, 3)
    for title in titles:
        visit.add(title)
    visit.page.get_by_role("button", name=f"Move {titles[2]} earlier").click()
    assert visit.history_ids() == ["i1", "i3", "i2"]
    expect(visit.page.get_by_role("button", name=f"Move {titles[2]} earlier")).to_be_focused()
    assert visit.ids() == ids_of(best_of(recommender, 1, 3, 2))
    expect(visit.page.get_by_role("button", name=f"Move {titles[0]} earlier")).to_be_disabled()
    visit.page.get_by_role("button", name=f"Remove {titles[0]}").click()
    assert visit.history_ids() == ["i3", "i2"]
    expect(visit.page.get_by_role("button", name=f"Remove {titles[2]}")).to_be_focused()
    assert visit.ids() == ids_of(best_of(recommender, 3, 2))
    visit.page.get_by_role("button", name="Clear").click()
    expect(visit.history).to_have_count(0)
    expect(visit.page.locator("#item")).to_be_focused()
    assert visit.ids() == ids_of(best_of(recommender))


def test_the_search_works_by_keyboard_and_says_so(visit: Visit) -> None:
    field = visit.page.get_by_role("combobox", name="Add an item")
    expect(field).to_have_attribute("aria-expanded", "false")
    found = visit.search("desk")
    expect(field).to_have_attribute("aria-expanded", "true")
    expect(visit.page.get_by_role("status")).to_have_text(f"{len(found)} items")
    field.press("ArrowDown")
    option = visit.page.locator(f"#{field.get_attribute('aria-activedescendant')}")
    expect(option).to_have_attribute("aria-selected", "true")
    expect(option.locator(".title")).to_have_text(found[1])
    field.press("Escape")
    expect(field).to_have_attribute("aria-expanded", "false")
    expect(visit.history).to_have_count(0)
    field.press("ArrowDown")  # open again
    expect(visit.page.locator("#item-options")).to_be_visible()
    expect(visit.page.locator("#item-options [aria-selected=true] .title")).to_have_text(found[0])
    field.press("Enter")
    expect(visit.history.locator(".title")).to_have_text(found[0])


def test_a_user_is_picked(visit: Visit, recommender: LLMRecommender) -> None:
    visit.page.get_by_role("combobox", name="Take a user's history").click()
    expect(visit.page.locator("#user-options [role=option]")).to_have_count(2)
    visit.page.fill("#user", "1")
    expect(visit.page.locator("#user-options [role=option]")).to_have_text(["u1"])
    visit.page.press("#user", "Enter")
    expect(visit.page.locator("#history-count")).to_have_text("3 items of user u1")
    assert visit.history_ids() == ["i1", "i2", "i3"]
    assert visit.ids() == ids_of(best_of(recommender, 1, 2, 3))


def test_without_users_there_is_no_search_for_them(empty_tab: Visit, recommender: LLMRecommender) -> None:
    with served(make_service(recommender)) as address:
        empty_tab.page.goto(address)
        empty_tab.settle()
        expect(empty_tab.page.locator("#model")).to_have_text("shop")
        expect(empty_tab.page.locator("#user")).to_be_hidden()
        empty_tab.page.goto("about:blank")


def test_filters_leave_only_what_they_say(visit: Visit) -> None:
    visit.page.fill("#k", "30")
    visit.filter("brand", "Alba")
    assert {int(name[1:]) % 2 for name in visit.ids()} == {1}
    visit.filter("colors", "blue")  # a column of lists
    assert {int(name[1:]) % 4 for name in visit.ids()} == {1}
    visit.page.get_by_role("button", name="Remove the filter brand = Alba").click()
    assert {int(name[1:]) % 4 for name in visit.ids()} == {1, 2}
    visit.page.get_by_role("button", name="Remove the filter colors = blue").click()
    visit.filter("price", "3")  # a number, not a text
    assert visit.ids() == ["i2"]
    visit.filter("price", "4.5")  # or
    assert sorted(visit.ids()) == ["i2", "i3"]


def test_no_item_passes(visit: Visit) -> None:
    visit.filter("brand", "Nobody")
    expect(visit.page.locator("#nothing")).to_have_text("No item passes the filter.")
    expect(visit.items).to_have_count(0)


def test_a_value_behind_an_item_becomes_a_filter(visit: Visit) -> None:
    why = visit.why(0)
    brand = "Alba" if int(visit.ids()[0][1:]) % 2 else "Boro"
    why.get_by_role("button", name=f"Only items with brand = {brand}").click()
    expect(visit.page.locator("#filters > li")).to_contain_text(f"brand {brand}")
    assert {int(name[1:]) % 2 for name in visit.ids()} == {int(brand == "Alba")}


def test_items_of_the_history_come_where_they_may(visit: Visit, recommender: LLMRecommender) -> None:
    visit.page.fill("#k", "30")
    visit.add(titles_of(recommender, 6)[0])
    assert "i6" not in visit.ids()
    assert len(visit.ids()) == 29
    visit.page.get_by_label("Leave out the history").uncheck()
    assert "i6" in visit.ids()


def test_nothing_of_a_title_or_an_id_becomes_markup(visit: Visit) -> None:
    visit.page.fill("#k", "30")
    place = visit.ids().index("i7")
    expect(visit.items.nth(place).locator(".line .title")).to_contain_text(HOSTILE)
    visit.add(HOSTILE)
    expect(visit.history.locator(".title")).to_have_text(HOSTILE)
    visit.page.get_by_label("Leave out the history").uncheck()
    why = visit.why(visit.ids().index("i7"))  # it is the nearest to itself
    expect(why.locator(".nearest .title").first).to_have_text(HOSTILE)
    visit.search("<img src=y onerror=\"document.title='hacked'\">")
    visit.page.press("#item", "ArrowUp")
    visit.page.press("#item", "Enter")
    expect(visit.page.locator("#unknown")).to_contain_text("onerror")
    expect(visit.history.last).to_have_class("unknown")
    visit.settle()
    expect(visit.page.locator("img")).to_have_count(0)
    expect(visit.page).to_have_title("shop \u00b7 llmrec")


def test_the_command_asks_for_what_is_shown(visit: Visit, recommender: LLMRecommender) -> None:
    visit.add(titles_of(recommender, 6)[0])
    visit.search("it's $HOME")  # quotes must survive the shell
    visit.page.press("#item", "ArrowUp")
    visit.page.press("#item", "Enter")
    expect(visit.history).to_have_count(2)
    visit.filter("brand", "Boro")
    visit.page.fill("#k", "7")
    shown = visit.ids()
    visit.page.get_by_text("As a request").click()
    words = shlex.split(visit.page.locator("#command").inner_text().replace("\\\n", " "))
    assert words[:2] == ["curl", "-s"]
    header, value = words[words.index("-H") + 1].split(": ")
    body = words[words.index("-d") + 1]
    assert json.loads(body)["history"] == ["i6", "it's $HOME"]
    answer = httpx2.post(words[2], content=body, headers={header: value}).json()
    assert [item["item_id"] for item in answer["items"]] == shown


def test_an_id_is_copied(browser: Browser, address: str) -> None:
    context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    visit = Visit(context.new_page())
    visit.page.goto(address)
    first = visit.ids()[0]
    visit.page.get_by_role("button", name=f"Copy the id {first}", exact=True).click()
    expect(visit.page.get_by_role("status")).to_have_text(f"Copied {first}")
    assert visit.page.evaluate("navigator.clipboard.readText()") == first
    expect(visit.items.first.locator(".why")).to_be_hidden()
    context.close()


@pytest.mark.parametrize(
    ("recommender", "widths", "numbers"),
    [
        # log of 4, 3 and 2 of 12 probabilities; 2 and 1 steps from i0, and popularity's part, which is below a half
        (Popularity(), ["100%", "75%", "50%"], ["\u22121.10", "\u22121.39", "\u22121.79"]),
        (Markov(), ["100%"], ["2."]),
    ],
)
def test_a_counter_has_bars_and_no_codes(
    empty_tab: Visit, recommender: Popularity | Markov, widths: list[str], numbers: list[str]
) -> None:
    catalog = make_catalog(6)
    users, rows = ["u1", "u1", "u2", "u2", "u3", "u3"], [0, 1, 0, 1, 0, 2]
    train = Interactions.from_columns(
        pa.array(users), pa.array([f"i{row}" for row in rows]), np.arange(6), catalog.items
    )
    with served(make_service(recommender.fit(train, catalog))) as address:
        empty_tab.page.goto(address)
        empty_tab.settle()
        empty_tab.page.get_by_label("Leave out the history").uncheck()
        empty_tab.add(catalog.title(0))
        assert empty_tab.ids()
        found = empty_tab.items.locator(".bar.score span").evaluate_all("all => all.map(bar => bar.style.width)")
        assert found[: len(widths)] == widths
        shown = empty_tab.items.locator(".line .number").all_inner_texts()
        assert all(text.startswith(start) for text, start in zip(shown, numbers, strict=False))
        expect(empty_tab.why(0)).to_contain_text("no item codes")
        expect(empty_tab.page.locator("#legend")).to_contain_text(f"score of the {recommender.kind} recommender")
        empty_tab.page.goto("about:blank")


@pytest.mark.parametrize("width", [320, 390, 800, 1280])
def test_nothing_sticks_out(visit: Visit, width: int) -> None:
    visit.page.set_viewport_size({"width": width, "height": 800})
    visit.add(HOSTILE)
    visit.why(0)
    visit.page.get_by_text("As a request").click()
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= width
