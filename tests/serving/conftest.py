"""One served shop for tests that do not change it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient
from serving.shop import client_of, make_recommender, make_service, with_users

from llmrec.recommenders.llm import LLMRecommender


@pytest.fixture(scope="session")
def recommender() -> LLMRecommender:
    return make_recommender()


@pytest.fixture(scope="module")
def client(recommender: LLMRecommender) -> Iterator[TestClient]:
    with client_of(with_users(make_service(recommender), u1=[1, 2, 3], u2=[])) as made:
        yield made
