"""One served shop for tests that do not change it, behind a test client and in a browser."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient
from playwright.sync_api import Browser
from serving.browser import Visit, chromium, served
from serving.shop import client_of, make_recommender, make_service, with_users

from llmrec.recommenders.llm import LLMRecommender


@pytest.fixture(scope="session")
def recommender() -> LLMRecommender:
    return make_recommender()


@pytest.fixture(scope="module")
def client(recommender: LLMRecommender) -> Iterator[TestClient]:
    with client_of(with_users(make_service(recommender), u1=[1, 2, 3], u2=[])) as made:
        yield made


@pytest.fixture(scope="module")  # while it runs, this thread has an event loop, which other modules must not find
def browser() -> Iterator[Browser]:
    with chromium() as made:
        yield made


@pytest.fixture(scope="module")
def address(recommender: LLMRecommender) -> Iterator[str]:
    with served(with_users(make_service(recommender), u1=[1, 2, 3], u2=[])) as made:
        yield made


@pytest.fixture
def empty_tab(browser: Browser) -> Iterator[Visit]:
    """A tab that has not been anywhere, in which no script may fail and no policy be broken."""
    context = browser.new_context()
    visit = Visit(context.new_page())
    yield visit
    context.close()
    assert [text for text in visit.complaints if "Failed to load resource" not in text] == []


@pytest.fixture
def visit(empty_tab: Visit, address: str) -> Visit:
    empty_tab.page.goto(address)
    empty_tab.settle()
    return empty_tab
