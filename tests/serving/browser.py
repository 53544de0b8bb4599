"""A real server on a port of this machine, and a headless Chromium in front of it."""

from __future__ import annotations

import os
import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import uvicorn
from playwright.sync_api import Browser, Page, expect, sync_playwright

from llmrec.serving.app import create_app
from llmrec.serving.service import Service

NAMES = ("chromium", "chromium-browser", "google-chrome")
# Nothing but the page goes through the network.
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
)
PATIENCE = 30_000
"""Milliseconds that anything may take on a busy machine."""


def find_chromium() -> str:
    """The path of an installed browser. Without one the tests are skipped, but not where everything must run."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        reason = f"no {', '.join(NAMES)} on PATH; on Debian: apt-get install chromium"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return found


@contextmanager
def chromium() -> Iterator[Browser]:
    path = find_chromium()
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=path, args=list(ARGUMENTS))


@contextmanager
def served(service: Service, **keys: Any) -> Iterator[str]:
    """The address of a running server."""
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(create_app(service, **keys), log_level="warning"))
    thread = threading.Thread(target=server.run, args=([listening],))
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
    finally:
        server.should_exit = True
        thread.join()


class Visit:
    """A tab at the page, and what a person does there.

    Args:
        page: Playwright's. It starts empty-handed: no cookies, no storage.
    """

    def __init__(self, page: Page) -> None:
        self.page, self.complaints = page, list[str]()
        page.set_default_timeout(PATIENCE)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", lambda line: line.type == "error" and self.complaints.append(line.text))
        self.items = page.locator("#items > li")
        self.history = page.locator("#history > li")
        self.problem = page.locator("#problem")

    def settle(self) -> None:
        """Wait for the answer to the last change."""
        expect(self.page.locator("#answer")).to_have_attribute("aria-busy", "false")

    def ids(self) -> list[str]:
        self.settle()
        return self.items.locator(".line .id").all_inner_texts()

    def history_ids(self) -> list[str]:
        return self.history.locator(".names .id").all_inner_texts()

    def search(self, text: str) -> list[str]:
        """Type into the item search; the titles that are offered."""
        self.page.fill("#item", text)
        expect(self.page.locator("#item-options .last")).to_contain_text(text)
        return self.page.locator("#item-options [role=option]:not(.last) .title").all_inner_texts()

    def add(self, title: str) -> None:
        """Search an item by its whole title and take it by keyboard."""
        assert self.search(title)[0] == title
        self.page.press("#item", "Enter")

    def say(self, text: str) -> None:
        """Ask in words."""
        self.page.fill("#query", text)
        self.page.press("#query", "Enter")

    def filter(self, column: str, value: str) -> None:
        self.page.select_option("#column", column)
        self.page.fill("#value", value)
        self.page.press("#value", "Enter")
        expect(self.page.locator("#filters > li").last).to_contain_text(f"{column} {value}")

    def why(self, place: int) -> Any:
        """Open what is behind a recommended item."""
        self.settle()
        self.items.nth(place).locator(".line .title").click()
        return self.items.nth(place).locator(".why")

    def asked(self) -> str:
        """The command that is shown."""
        return self.page.locator("#command").text_content() or ""
