"""Cleaning makes one tidy line of any text, and cleaning twice is cleaning once."""

from __future__ import annotations

import unicodedata

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from llmrec.data.text import clean, fill_titles
from llmrec.errors import DataError

MARKUP = st.sampled_from(["&amp;", "&lt;", "&gt;", "&#38;", "&#x3c;", "amp;", "<b>", "</b>", "<", ">", "b", " ", "&"])
DIRTY = st.lists(st.one_of(MARKUP, st.text(max_size=5)), max_size=40).map("".join)


def cleaned(text: str | None, max_chars: int = 500) -> str:
    return clean(pa.array([text], pa.string()), max_chars)[0].as_py()


@pytest.mark.parametrize(
    ("dirty", "tidy"),
    [
        ("Pens &amp; Ink &#39;A&quot;", "Pens & Ink 'A\""),
        ("Salt &amp;amp; Pepper", "Salt & Pepper"),
        ("a&lt;br/&gt;b", "a b"),
        ("<p class='x'>Big <B>bold</B></p><!-- no --> end", "Big bold end"),
        ("<style>p {color: red}</style>Red<script type=a>alert(1)</script>", "Red"),
        ("one\x02\x03two\r\nthree\tfour\x00", "one two three four"),
        ("  doubled   and\u00a0outer\u2003spaces ", "doubled and outer spaces"),
        ("hid\u202eden\u200b order", "hid den order"),
        ("Cafe\u0301", "Caf\u00e9"),
        ("AT&T, 1 < 2 > 0, <3, Map<String>, ?a=1&copy=2", "AT&T, 1 < 2 > 0, <3, Map<String>, ?a=1&copy=2"),
        ('Industrial &amp; Scientific" />', 'Industrial & Scientific" />'),
        ("<|im_end|> <a_1>", "<|im_end|> <a_1>"),
        ("\u65e5\u672c\u8a9e \U0001f600", "\u65e5\u672c\u8a9e \U0001f600"),
        ("", ""),
        (None, ""),
    ],
)
def test_known_dirt(dirty: str | None, tidy: str) -> None:
    assert cleaned(dirty) == tidy


@pytest.mark.parametrize(
    ("text", "max_chars", "short"),
    [
        ("alpha beta gamma", 16, "alpha beta gamma"),
        ("alpha beta gamma", 15, "alpha beta"),
        ("alpha beta gamma", 10, "alpha beta"),
        ("alpha beta gamma", 9, "alpha"),
        ("a " + "b" * 20, 10, "a bbbbbbbb"),  # a cut at the word would keep one character of ten
        ("\U0001f600" * 20, 3, "\U0001f600" * 3),
    ],
)
def test_cut_after_a_whole_word(text: str, max_chars: int, short: str) -> None:
    assert cleaned(text, max_chars) == short


@settings(max_examples=60, deadline=None)
@given(DIRTY, st.integers(1, 60))
@example("&amp;" * 3 + "lt;b&gt;", 60)
@example("&<b></b>amp;", 60)
def test_cleaning_is_idempotent_and_bounded(dirty: str, max_chars: int) -> None:
    tidy = cleaned(dirty, max_chars)
    assert cleaned(tidy, max_chars) == tidy
    assert len(tidy) <= max_chars
    assert tidy == " ".join(tidy.split())
    assert not any(unicodedata.category(symbol) in ("Cc", "Zl", "Zp") for symbol in tidy)
    assert unicodedata.is_normalized("NFC", tidy)


def test_columns_in_pieces_keep_their_order() -> None:
    texts = pa.chunked_array([["a  b"], [], [None, "<i>c</i>"]], pa.string())
    assert clean(texts, 10).to_pylist() == ["a b", "", "c"]
    assert clean(texts.slice(2), 10).to_pylist() == ["c"]


def test_many_texts_are_cleaned_across_pieces() -> None:
    count = (1 << 16) + 3
    tidy = clean(pa.array([f" {number} &amp; co" for number in range(count)]), 50)
    assert len(tidy) == count
    assert [tidy[row].as_py() for row in (0, 1 << 16, count - 1)] == ["0 & co", "65536 & co", "65538 & co"]


def test_oversized_text_names_the_row() -> None:
    texts = pa.array(["fine", "x" * 1001])
    with pytest.raises(DataError, match=r"items\.csv, row 1 .*'title'.*1,001 bytes.*max_raw_bytes") as caught:
        clean(texts, 500, max_raw_bytes=1000, where="items.csv", column="title")
    assert (caught.value.row, caught.value.column) == (1, "title")


def test_invalid_utf8_names_the_row() -> None:
    offsets, data = pa.py_buffer(b"\x00\0\0\0\x02\0\0\0\x03\0\0\0"), pa.py_buffer(b"ok\xe9")
    with pytest.raises(DataError, match=r"row 1 .*not valid UTF-8"):
        clean(pa.Array.from_buffers(pa.string(), 2, [None, offsets, data]), 500, column="title")


def test_untitled_items_are_named_by_their_other_texts() -> None:
    titles = pa.chunked_array([["Pen", "", ""]])
    brands, kinds = pa.chunked_array([["Bic", "3M", ""]]), pa.chunked_array([["pens", "tape and glue", ""]])
    filled = fill_titles(titles, {"brand": brands, "kind": kinds}, max_chars=12)
    assert filled.to_pylist() == ["Pen", "(untitled item) 3M, tape and", "(untitled item)"]
    assert fill_titles(titles, {}).to_pylist() == ["Pen", "(untitled item)", "(untitled item)"]
