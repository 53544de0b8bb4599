"""The files of the page: nothing from elsewhere, nothing that makes markup of a text, colours that can be read."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from llmrec.serving.app import PAGE

SCRIPTS = sorted(PAGE.glob("*.js"))
STYLE = (PAGE / "page.css").read_text()
THEMES = dict(
    zip(
        ("light", "dark"),
        [
            dict(re.findall(r"(--[\w-]+): ([^;]+);", block))
            for block in re.findall(r":root \{(.*?)\}", STYLE, re.DOTALL)
        ],
        strict=True,
    )
)


class Elements(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


ELEMENTS = Elements((PAGE / "index.html").read_text()).found


def test_the_server_gives_the_page_and_all_that_it_names(client: TestClient) -> None:
    answer = client.get("/")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'self'" in answer.headers["content-security-policy"]
    named = [attributes[name] or "" for _, attributes in ELEMENTS for name in ("src", "href") if name in attributes]
    imported = [f"static/{name}" for script in SCRIPTS for name in re.findall(r'from "\./(.+)"', script.read_text())]
    assert {"static/page.js", "static/page.css", "static/dom.js"} <= {*named, *imported}
    types = {"js": "text/javascript", "css": "text/css", "svg": "image/svg+xml", "json": "application/json"}
    for path in {*named, *imported}:
        assert not re.match(r"/|\w+:", path), "relative, so that the page works behind a path of a proxy"
        answer = client.get(f"/{path}")
        assert answer.status_code == 200
        assert answer.headers["content-type"].split(";")[0] == types[path.rsplit(".", 1)[1]]


def test_every_script_is_used() -> None:
    imported = {name for script in SCRIPTS for name in re.findall(r'from "\./(.+)"', script.read_text())}
    assert {script.name for script in SCRIPTS} == imported | {"page.js"}


def test_the_policy_finds_nothing_to_block() -> None:
    scripts = [attributes for tag, attributes in ELEMENTS if tag == "script"]
    assert all("src" in attributes for attributes in scripts)
    assert not any(tag == "style" for tag, _ in ELEMENTS)
    names = {name for _, attributes in ELEMENTS for name in attributes}
    assert not any(name == "style" or name.startswith("on") for name in names)


def test_every_field_has_a_name() -> None:
    labelled = {attributes["for"] for tag, attributes in ELEMENTS if tag == "label" and "for" in attributes}
    fields = [attributes for tag, attributes in ELEMENTS if tag in ("input", "select")]
    inside = {"k", "exclude-seen"}  # their labels are around them
    assert len(fields) == 8
    assert all(field["id"] in labelled | inside or "aria-label" in field for field in fields)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_no_script_makes_markup_of_texts(script: Path) -> None:
    forbidden = r"(inner|outer)HTML|insertAdjacentHTML|document\.write|eval\(|new Function|DOMParser|createContextual"
    assert not re.search(forbidden, script.read_text())
    assert "localStorage" not in script.read_text()


def test_both_colour_schemes_have_every_colour() -> None:
    assert THEMES["light"].keys() == THEMES["dark"].keys() == set(re.findall(r"var\((--[\w-]+)\)", STYLE))


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize(
    ("text", "under"),
    [
        *[("text", under) for under in ("page", "card", "field", "main-soft", "bad-soft")],
        *[("soft", under) for under in ("page", "card", "field", "main-soft", "bad-soft")],
        *[("main", "card"), ("main", "main-soft"), ("on-main", "main"), ("code", "card")],
        *[("good", "good-soft"), ("warn", "warn-soft"), ("warn", "card"), ("bad", "bad-soft")],
    ],
)
def test_texts_can_be_read(theme: str, text: str, under: str) -> None:
    """WCAG 2.2, level AA: a contrast of 4.5."""
    light, dark = sorted([luminance(THEMES[theme][f"--{name}"]) for name in (text, under)], reverse=True)
    assert (light + 0.05) / (dark + 0.05) >= 4.5
