r"""The one place where text from outside is cleaned: markup, control characters, spaces, length.

Item texts come from shops and scrapers; what reaches a prompt must be one tidy line. Everything here works on whole
Arrow columns; only the few texts that contain an HTML entity are touched by Python one at a time.

    >>> clean(pa.array(["Pens &amp; <b>Ink</b>\n", None]), max_chars=500).to_pylist()
    ['Pens & Ink', '']
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc
from tqdm import tqdm

from llmrec.errors import DataError

UNTITLED = "(untitled item)"
LONGEST_REQUEST = 1_000
"""Characters of a request in words that are read."""
_CHUNK = 1 << 16  # texts cleaned at once: keeps every intermediate array far below Arrow's 2 GB of one string array

_ELEMENTS = (
    "a abbr acronym address area article aside audio b base basefont bdi bdo big blockquote body br button canvas "
    "caption center cite code col colgroup data datalist dd del details dfn dialog dir div dl dt em embed fieldset "
    "figcaption figure font footer form frame frameset h1 h2 h3 h4 h5 h6 head header hr html i iframe img input ins "
    "kbd label legend li link main map mark meta meter nav noscript object ol optgroup option output p param picture "
    "pre progress q rp rt ruby s samp script section select small source span strike strong style sub summary sup "
    "table tbody td template textarea tfoot th thead time title tr track tt u ul var video wbr"
).split()
# Each pattern is replaced on its own: in one alternation a file full of '<script>' would take quadratic time.
_MARKUP = (
    r"(?s)<!--.*?-->",
    r"(?is)<script\b.*?</script\s*>",
    r"(?is)<style\b.*?</style\s*>",
    # Only real HTML elements: '1 < 2 and 3 > 2' and 'Map<String> in Java' stay as they are.
    rf"(?i)<!doctype[^<>]*>|</?(?:{'|'.join(_ELEMENTS)})(?:\s[^<>]*)?/?>",
)
# With the final semicolon: 'AT&T', '?a=1&copy=2' and 'Q&A' are no entities.
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
# Control characters, all separators but the plain space, and the invisible characters that hide or reverse text.
_ODD = (
    r"\p{Cc}\p{Zl}\p{Zp}\x{A0}\x{1680}\x{2000}-\x{200A}\x{202F}\x{205F}\x{3000}"
    r"\x{200B}\x{FEFF}\x{202A}-\x{202E}\x{2066}-\x{2069}"
)
_SPACES = rf" *[{_ODD}][ {_ODD}]*|  +"  # never a lone plain space: replacing each of those would cost most of the time


def clean(
    texts: pa.Array | pa.ChunkedArray,
    max_chars: int,
    max_raw_bytes: int = 1_000_000,
    where: str | None = None,
    column: str | None = None,
) -> pa.ChunkedArray:
    """Tidy every text: one line, no markup, NFC, single spaces, at most `max_chars` characters; null becomes "".

    Cleaning a clean text changes nothing. A text that is too long ends after a whole word where that keeps at least
    half of the room, else in mid-word.

    Args:
        texts: `[N]` strings.
        max_chars: the longest result, in code points.
        max_raw_bytes: a longer raw text is refused before any work is spent on it.
        where: the table, for messages.
        column: the column, for messages.

    Returns:
        `[N]` strings, none null.

    Raises:
        DataError: a raw text is too long or is not UTF-8; names the row.
    """
    _refuse_oversized(texts, max_raw_bytes, where, column)
    steps = tqdm(
        range(0, len(texts), _CHUNK), desc=f"cleaning {column or 'text'}", leave=False, disable=len(texts) < 8 * _CHUNK
    )
    chunks = [_clean_chunk(_one_array(texts.slice(start, _CHUNK)), max_chars, start, where, column) for start in steps]
    return pa.chunked_array(chunks, pa.string())


def fill_titles(titles: pa.ChunkedArray, others: Mapping[str, pa.ChunkedArray], max_chars: int = 80) -> pa.ChunkedArray:
    """Give items without a title one made of their other texts: `(untitled item) 3M, Office Products`.

    Args:
        titles: `[N]` clean strings, "" where there is none.
        others: name -> `[N]` clean strings, in the order in which they are joined by ", ".
        max_chars: room for the joined texts, cut at a word.

    Returns:
        `[N]` strings, none empty; `(untitled item)` alone where an item says nothing at all.
    """
    untitled = pc.equal(titles, "")
    if not pc.any(untitled).as_py():
        return titles
    texts = [column.filter(untitled).to_pylist() for column in others.values()]
    count = pc.sum(untitled).as_py()
    rows = zip(*texts, strict=True) if texts else [()] * count
    joined = clean(pa.array([", ".join(filter(None, row)) for row in rows], pa.string()), max_chars)
    filled = pc.utf8_trim_whitespace(pc.binary_join_element_wise(UNTITLED, joined, " "))
    return pc.replace_with_mask(_one_array(titles), _one_array(untitled), _one_array(filled))


def tidy_requests(texts: Sequence[str]) -> list[str]:
    """Requests in words as `clean` leaves texts, at most `LONGEST_REQUEST` characters.

    Raises:
        DataError: one says nothing.
    """
    whole = [text.encode(errors="replace").decode() for text in texts]  # half of a surrogate pair is no text
    found: list[str] = clean(pa.array(whole, pa.string()), LONGEST_REQUEST, where="requests").to_pylist()
    for row, text in enumerate(found):
        if not text:
            raise DataError("it says nothing.", where="requests", row=row, fix="Say in words what is wanted.")
    return found


def _one_array(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _refuse_oversized(
    texts: pa.Array | pa.ChunkedArray, max_raw_bytes: int, where: str | None, column: str | None
) -> None:
    sizes = pc.binary_length(texts)
    row = pc.index(pc.greater(sizes, max_raw_bytes), pa.scalar(True)).as_py()
    if row >= 0:
        raise DataError(
            f"the text is {sizes[row].as_py():,} bytes long; at most {max_raw_bytes:,} are read.",
            where=where,
            row=row,
            column=column,
            fix="Shorten it, or raise max_raw_bytes.",
        )


def _clean_chunk(texts: pa.Array, max_chars: int, start: int, where: str | None, column: str | None) -> pa.Array:
    texts = texts.fill_null("")
    try:
        texts.validate(full=True)
    except pa.ArrowInvalid:
        row = start + next(i for i, value in enumerate(texts.cast(pa.large_binary())) if not _is_utf8(value.as_py()))
        raise DataError(
            "the text is not valid UTF-8.", where=where, row=row, column=column, fix="Save the table as UTF-8."
        ) from None
    cleaned = _pass(texts.cast(pa.string()), max_chars)
    # '&amp;lt;b&gt;' needs several passes. Only texts that still hold '&' or '<' can change, and each change makes them
    # shorter, so this ends soon: they are at most max_chars long by now.
    mask = pc.match_substring_regex(cleaned, "[&<]")
    suspects = cleaned.filter(mask)
    while not (again := _pass(suspects, max_chars)).equals(suspects):
        suspects = again
    return pc.replace_with_mask(cleaned, mask, suspects)


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def _pass(texts: pa.StringArray, max_chars: int) -> pa.StringArray:
    texts = _strip_tags(_unescape(texts))
    texts = pc.utf8_normalize(texts, form="NFC")
    texts = pc.utf8_trim(pc.replace_substring_regex(texts, _SPACES, " "), " ")
    return _cut(texts, max_chars)


def _unescape(texts: pa.StringArray) -> pa.StringArray:
    mask = pc.match_substring_regex(texts, _ENTITY.pattern)
    escaped = texts.filter(mask).to_pylist()
    plain = [_ENTITY.sub(lambda entity: html.unescape(entity[0]), text) for text in escaped]
    return pc.replace_with_mask(texts, mask, pa.array(plain, pa.string()))


def _strip_tags(texts: pa.StringArray) -> pa.StringArray:
    mask = pc.match_substring(texts, "<")
    tagged = texts.filter(mask)
    for pattern in _MARKUP:
        tagged = pc.replace_substring_regex(tagged, pattern, " ")
    return pc.replace_with_mask(texts, mask, tagged)


def _cut(texts: pa.StringArray, max_chars: int) -> pa.StringArray:
    mask = pc.greater(pc.utf8_length(texts), max_chars)
    window = pc.utf8_slice_codeunits(texts.filter(mask), 0, max_chars + 1)
    words = pc.replace_substring_regex(window, " [^ ]*$", "")
    hard = pc.utf8_trim(pc.utf8_slice_codeunits(window, 0, max_chars), " ")
    lengths = pc.utf8_length(words)
    whole = pc.and_(pc.less_equal(lengths, max_chars), pc.greater_equal(pc.multiply(lengths, 2), max_chars))
    return pc.replace_with_mask(texts, mask, pc.if_else(whole, words, hard))
