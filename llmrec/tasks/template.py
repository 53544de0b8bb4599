"""Prompts: a Jinja template decides the wording, and nothing that it inserts can become a control token.

The template's own words are tokenized with special tokens allowed (the author may write `<|im_start|>`); every value
that it inserts (titles, ids, numbers) is encoded as plain text; `{{ item.code }}` becomes the item's tokens. The parts
are tokenized apart and joined as ids, so a title can neither close a chat turn nor name another item.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from jinja2 import StrictUndefined, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from llmrec.errors import RecipeError

OPEN, CLOSE = "\x02", "\x03"
_MARK = re.compile(f"{OPEN}(?:I([0-9]+)|T([^{CLOSE}]*)){CLOSE}")
_FENCE = re.compile(f"[{OPEN}{CLOSE}]")
_MISTAKES = (TemplateError, TypeError, ValueError, LookupError, ArithmeticError, AttributeError, RecursionError)
"""What a template's own mistakes raise: `{{ 1 / 0 }}` runs as Python."""


class Segment(NamedTuple):
    """A piece of a rendered prompt: the template's own words, inserted text, or an item's code (its row)."""

    kind: Literal["template", "text", "code"]
    value: str | int


@dataclass(frozen=True)
class ItemCode:
    """What `{{ item.code }}` inserts."""

    row: int

    def __str__(self) -> str:
        """An error, so that `{{ item.title ~ item.code }}` cannot pass for a code."""
        raise RecipeError("the prompt template uses item.code in a text. Print it alone, as {{ item.code }}.")


def without_fences(value: Any) -> Any:
    """A column's value as a template may get it, without the two control characters that mark what is inserted."""
    return _FENCE.sub("", value) if isinstance(value, str) else value


def _mark(value: Any) -> str:
    """Fence an inserted value; stateless, because Jinja folds constants at compile time."""
    if isinstance(value, ItemCode):
        return f"{OPEN}I{value.row}{CLOSE}"
    text = "" if value is None else str(value)
    if _FENCE.search(text):
        raise RecipeError(
            "the prompt template prints again what a macro or a {% set %} block has printed. Print the values where "
            "they stand: macros and such blocks may hold words only."
        )
    return f"{OPEN}T{text}{CLOSE}"


class PromptTemplate:
    """A compiled template.

    Inside it: `history`, a list of items, oldest first; each has `code` and the catalog's columns (`title`, ...). A
    macro, a `{% set %}` block or a `{% filter %}` block must not print them, since its output is a text like any other.

    Args:
        source: the Jinja text. It runs in a sandbox, because a template may come from the Hub.

    Raises:
        RecipeError: the text is not valid Jinja, or holds the two control characters that llmrec uses as fences.
    """

    def __init__(self, source: str) -> None:
        if _FENCE.search(source):
            raise RecipeError("the prompt template holds a control character (U+0002 or U+0003). Remove it.")
        environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, finalize=_mark, autoescape=False)
        try:
            self._template = environment.from_string(source.rstrip("\n"))
        except TemplateError as error:
            problem = str(error).rstrip(".")
            raise RecipeError(
                f"the prompt template is not valid Jinja: {problem}. See prompts/ for examples."
            ) from error
        self.source = source

    @property
    def digest(self) -> str:
        """SHA-256 of the wording; saved with a model and checked when it is loaded."""
        return hashlib.sha256(self.source.encode()).hexdigest()

    def segments(self, history: Sequence[dict[str, Any]], asked: dict[str, Any] | None = None) -> list[Segment]:
        """Render a history into pieces.

        Args:
            history: the items' values, texts `without_fences`, and their `code`.
            asked: the same of one more item, where the question is about one (`llmrec.tasks.choice`).

        Raises:
            RecipeError: the template uses a name that the items do not have, or fails in another way.
        """
        given = {"history": history} if asked is None else {"history": history, "asked": asked}
        try:
            text = self._template.render(given)
        except _MISTAKES as error:
            names = " and ".join(f"'{name}'" for name in given)
            known = f" An item has {', '.join(sorted(history[0]))}." if history else f" It is given {names} only."
            raise RecipeError(f"the prompt template cannot be rendered: {str(error).rstrip('.')}.{known}") from error
        pieces, end = [], 0
        for match in _MARK.finditer(text):
            row, value = match.groups()
            pieces.append(Segment("template", text[end : match.start()]))
            pieces.append(Segment("text", value) if row is None else Segment("code", int(row)))
            end = match.end()
        pieces.append(Segment("template", text[end:]))
        if _FENCE.search("".join(str(piece.value) for piece in pieces if piece.kind == "template")):
            raise RecipeError(
                "the prompt template changes what it has printed (in a {% filter %} block). Filter the values "
                "themselves: {{ item.title | lower }}."
            )
        return [piece for piece in pieces if piece.value != ""]


def encode_segments(
    segments: Sequence[Segment],
    encode_template: Callable[[str], Sequence[int]],
    encode_text: Callable[[str], Sequence[int]],
    encode_item: Callable[[int], Sequence[int]],
) -> tuple[list[int], list[int]]:
    """Tokenize each piece apart and join the ids.

    Returns:
        The token ids, and beside each id the level it has in an item code, -1 for text.
    """
    ids: list[int] = []
    levels: list[int] = []
    for kind, value in segments:
        if kind == "code":
            piece: Sequence[int] = encode_item(int(value))
            levels.extend(range(len(piece)))
        else:
            piece = encode_template(str(value)) if kind == "template" else encode_text(str(value))
            levels.extend([-1] * len(piece))
        ids.extend(piece)
    return ids, levels
