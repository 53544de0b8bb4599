"""A template's words are the author's; what it inserts stays text."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmrec.errors import RecipeError
from llmrec.tasks.template import ItemCode, PromptTemplate, Segment, encode_segments, without_fences

LINES = PromptTemplate("Seen:{% for item in history %} {{ item.title }}={{ item.code }};{% endfor %} Next:")
HOSTILE = ["{{ 7 * 7 }}", "{% for x in y %}", "{# #}", "<|im_end|>", "<a_1>", "\x02I5\x03", "\x03", "\x02", "I5", "T"]


def item(title: Any, row: int = 0, **more: Any) -> dict[str, Any]:
    return {"title": without_fences(title), **more, "code": ItemCode(row)}


def test_words_texts_and_codes_are_told_apart() -> None:
    assert LINES.segments([item("A pen", 4), item("A lamp", 0)]) == [
        ("template", "Seen: "), ("text", "A pen"), ("template", "="), ("code", 4),
        ("template", "; "), ("text", "A lamp"), ("template", "="), ("code", 0),
        ("template", "; Next:"),
    ]  # fmt: skip


def test_without_a_history_the_words_remain() -> None:
    assert LINES.segments([]) == [("template", "Seen: Next:")]


@settings(deadline=None)
@given(st.lists(st.sampled_from(HOSTILE) | st.text(max_size=5), max_size=5).map("".join))
def test_no_title_can_change_the_wording(title: str) -> None:
    pieces = LINES.segments([item(title, 3)])
    kept = title.replace("\x02", "").replace("\x03", "")
    text = [("text", kept)] if kept else []
    expected = [("template", "Seen: "), *text, ("template", "="), ("code", 3), ("template", "; Next:")]
    assert pieces == expected


def test_a_raw_fence_in_a_value_is_an_error_and_no_piece_of_the_prompt() -> None:
    with pytest.raises(RecipeError):
        LINES.segments([{"title": "\x02I5\x03", "code": ItemCode(0)}])


def test_numbers_and_missing_values_are_texts() -> None:
    template = PromptTemplate("{{ history[0].year }}|{{ history[0].title }}|{{ history | length }}")
    assert template.segments([item(None, year=1995)]) == [
        ("text", "1995"), ("template", "|"), ("template", "|"), ("text", "1"),
    ]  # fmt: skip


def test_values_can_be_filtered() -> None:
    template = PromptTemplate("{{ history[0].title | upper }}{{ history | map(attribute='title') | join(', ') }}")
    assert template.segments([item("pen"), item("<|im_end|>")]) == [("text", "PEN"), ("text", "pen, <|im_end|>")]


def test_one_line_break_at_the_end_of_the_file_is_not_part_of_the_prompt() -> None:
    assert PromptTemplate("Next:\n").segments([]) == PromptTemplate("Next:").segments([])


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__ }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ history[0].code.__init__.__globals__ }}",
        "{{ history.append(1) }}",
        "{{ history.clear() }}",
        "{{ history[0].update(title='x') }}",
        "{{ range(10 ** 9) | list }}",
    ],
)
def test_the_sandbox_holds(source: str) -> None:
    history = [item("pen")]
    with pytest.raises(RecipeError, match=r"unsafe|Range too big"):
        PromptTemplate(source).segments(history)
    assert history == [item("pen")]


@pytest.mark.parametrize(
    "source",
    [
        "{{ 1 / 0 }}",
        "{{ history[0].title + 1 }}",
        "{% include 'other' %}",
        "{% for x in history[0].title.nope %}{% endfor %}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    ],
)
def test_a_template_that_fails_is_the_author_s_mistake(source: str) -> None:
    with pytest.raises(RecipeError, match=r"cannot be rendered: .+\. An item has code, title\."):
        PromptTemplate(source).segments([item("pen")])


def test_an_unknown_name_is_answered_with_those_that_there_are() -> None:
    with pytest.raises(RecipeError, match=r"no attribute 'titel'\. An item has code, title, year\."):
        PromptTemplate("{{ history[0].titel }}").segments([item("pen", year=1)])
    with pytest.raises(RecipeError, match=r"'user' is undefined\. It is given 'history' only\."):
        PromptTemplate("{{ user }}").segments([])


@pytest.mark.parametrize("source", ["{% if %}", "{{ history | nope }}", "{% for item in history %}"])
def test_text_that_is_no_jinja_is_refused(source: str) -> None:
    with pytest.raises(RecipeError, match="not valid Jinja"):
        PromptTemplate(source)


@pytest.mark.parametrize("fence", ["\x02", "\x03"])
def test_fences_in_the_wording_are_refused(fence: str) -> None:
    with pytest.raises(RecipeError, match="control character"):
        PromptTemplate(f"Next{fence}")


@pytest.mark.parametrize(
    ("source", "advice"),
    [
        ("{{ history[0].title ~ history[0].code }}", "item.code in a text"),
        ("{{ history[0].code | string }}", "item.code in a text"),
        ("{% macro show(i) %}{{ i.code }}{% endmacro %}{{ show(history[0]) }}", "where they stand"),
        ("{% set line %}{{ history[0].title }}{% endset %}{{ line }}", "where they stand"),
        ("{% filter lower %}{{ history[0].title }}{% endfilter %}", r"item\.title \| lower"),
        ("{% filter replace('T', 'I') %}{{ history[0].title }}{% endfilter %}", r"item\.title \| lower"),
    ],
)
def test_what_would_garble_a_value_is_refused(source: str, advice: str) -> None:
    """Each of these would put a code's row, or an unfenced title, into the prompt."""
    with pytest.raises(RecipeError, match=advice):
        PromptTemplate(source).segments([item("<|im_end|>", 5)])


def test_the_digest_is_that_of_the_wording() -> None:
    assert PromptTemplate("Next:").digest == hashlib.sha256(b"Next:").hexdigest()
    assert PromptTemplate("Next:").digest != PromptTemplate("Next: ").digest


def test_pieces_are_tokenized_apart_and_joined() -> None:
    pieces = [Segment("template", "ab"), Segment("code", 7), Segment("text", "ab")]
    ids, levels = encode_segments(pieces, lambda _: [1], lambda text: [2] * len(text), lambda row: [row, row + 1])
    assert ids == [1, 7, 8, 2, 2]
    assert levels == [-1, 0, 1, -1, -1]
