"""Fixtures that many tests share: the real data, and a tiny world."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import quiet  # noqa: F401 - before what imports torch
from hub_server import READER, STRANGER, TOKEN, HubServer, User
from huggingface_hub import constants
from worlds import TinyWorld, make_tiny_world

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data sets beside the checkout; CI must have it, or say that it has not."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        missing = "the real data sets (../shared/data) are not beside this checkout; their licences forbid copying"
        if os.environ.get("CI") and not os.environ.get("LLMREC_TEST_WITHOUT_DATA"):
            pytest.fail(f"{missing}. Where they cannot be, set LLMREC_TEST_WITHOUT_DATA=1")
        pytest.skip(missing)
    return folder


@pytest.fixture(scope="session")
def tiny_world() -> TinyWorld:
    return make_tiny_world()


@pytest.fixture
def hub() -> Iterator[HubServer]:
    with HubServer(part_bytes=1 << 15) as server:
        server.users |= {TOKEN: User("alice"), READER: User("alice", may_write=False), STRANGER: User("bob")}
        yield server


@pytest.fixture
def cache(hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """This process takes the server for the Hub, and nobody is logged in; an empty cache."""
    cache = tmp_path / "cache"
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    return cache
