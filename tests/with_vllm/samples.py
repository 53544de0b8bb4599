"""Requests with all kinds of arguments, and whether an answer is one valid item."""

from __future__ import annotations

import random
from typing import Any

from worlds import TinyWorld

from llmrec.errors import DecodingError


def mixed_arguments(rng: random.Random, count: int) -> dict[str, Any]:
    """Item arguments of a request, by row or by id."""
    given: dict[str, Any] = {}
    for name, sizes in (("item_candidates", (1, 30)), ("item_excluded", (0, 200))):
        if rng.random() < 0.5:
            rows = rng.sample(range(count), rng.randint(*sizes))
            given[name] = rows if rng.random() < 0.5 else [f"i{row}" for row in rows]
    return given


def rows_of(given: dict[str, Any], name: str) -> set[int] | None:
    """The rows that an argument names."""
    return {int(str(item).removeprefix("i")) for item in given[name]} if name in given else None


def is_valid(world: TinyWorld, tokens: list[int], given: dict[str, Any]) -> bool:
    """Whether the tokens are one item that the arguments allow; nothing, where they allow none."""
    allowed = set(range(len(world.index))) - (rows_of(given, "item_excluded") or set())
    candidates = rows_of(given, "item_candidates")
    allowed &= allowed if candidates is None else candidates
    code = tokens[:-1] if tokens and tokens[-1] == world.items.tokenizer.eos_token_id else tokens
    if not code:
        return not allowed
    try:
        return bool(set(world.items.decode(code)) & allowed)
    except DecodingError:
        return False
