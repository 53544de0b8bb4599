"""The price that a request in words names: "a gift for a runner under 30 dollars".

    >>> price_limits("a gift for a runner under 30 dollars")
    [Limit(sign='<', amount=30.0)]

A model that has read titles knows what a runner is, and cannot be trusted with an amount. So the amount is read here,
and becomes a condition on the catalog: no item beyond it can come, whatever the model thinks.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Sequence
from functools import reduce
from typing import Literal, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from llmrec.data.catalog import Catalog

PRICE = "price"
"""The column that is compared."""

Sign = Literal["<", "<=", ">", ">="]

_SIGNS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
_WORDS: dict[str, Sign] = {
    r"under|below|less than|cheaper than|lower than": "<",
    r"up to|at most|no more than|not more than|not over|maximum of|maximum|max\.?": "<=",
    r"over|above|more than|dearer than": ">",
    r"at least|no less than|not less than|from|minimum of|minimum|min\.?": ">=",
}
# From the first digit and possessive: a thousand digits would otherwise be tried from and to each of them.
_AMOUNT = r"(?<!\d)(?P<{0}>\d{{1,3}}(?:,\d{{3}})++(?:\.\d++)?|\d++(?:\.\d++)?)"
_BEFORE = r"[$€£]\s?"
_BEHIND = r"(?:\s?[€£$]|\s?(?:us\s)?(?:dollars?|usd|bucks|euros?|eur|gbp)\b)"


def _money(name: str) -> str:
    """An amount with its currency before or behind it: what has none is no price."""
    plain = _AMOUNT.format(name)
    return rf"(?:{_BEFORE}{plain}|{plain.replace(name, name + 'b')}{_BEHIND})"


_SINGLE = {
    sign: re.compile(rf"(?<!not )(?<!no )\b(?:{words})\s+{_money('a')}", re.IGNORECASE)
    for words, sign in _WORDS.items()
}
_RANGE = re.compile(
    rf"(?P<between>\bbetween\s+)?(?:{_BEFORE})?{_AMOUNT.format('low')}(?:{_BEHIND})?\s*"
    rf"(?(between)and|(?:-|\u2013|to))\s*{_money('a')}",
    re.IGNORECASE,
)


class Limit(NamedTuple):
    """A bound of a price, in the catalog's own currency: none is converted."""

    sign: Sign
    amount: float

    def __str__(self) -> str:
        return f"{PRICE} {self.sign} {self.amount:.15g}"


def price_limits(text: str) -> list[Limit]:
    """The bounds that a request names; none where it names no price.

    An amount counts where a currency stands beside it ($30, 30 dollars, £5) and a bound before it: "under", "at most",
    "between 10 and 20 dollars", and the like. The word pounds is a weight as often as a price, and is not read.
    """
    if found := _RANGE.search(text):
        low, high = _number(found["low"]), _number(found["a"] or found["ab"])
        return [Limit(">=", min(low, high)), Limit("<=", max(low, high))]
    limits = []
    for sign, pattern in _SINGLE.items():
        if found := pattern.search(text):
            limits.append(Limit(sign, _number(found["a"] or found["ab"])))
    return limits


def comparable_limits(text: str, catalog: Catalog) -> tuple[Limit, ...]:
    """The same, where the catalog has a column `price` of numbers to compare them with; none where it has not."""
    table = catalog.table
    comparable = PRICE in table.column_names and _is_number(table[PRICE].type)
    return tuple(price_limits(text)) if comparable else ()


def within(limits: Sequence[Limit]) -> pc.Expression:
    """The bounds, at least one, as a condition for `Catalog.where`; items without a price satisfy none."""
    # As floats: Arrow compares a column of integers with 2.5 only as far as 32 bits of a float reach.
    price = pc.field(PRICE).cast(pa.float64(), safe=False)
    return reduce(operator.and_, [_SIGNS[sign](price, amount) for sign, amount in limits])


def price_condition(text: str, catalog: Catalog) -> pc.Expression | None:
    """The bounds that a request names as a condition for `Catalog.where`.

    Returns:
        None where the request names no price, or the catalog has no column `price` of numbers.
    """
    limits = comparable_limits(text, catalog)
    return within(limits) if limits else None


def told(limits: Sequence[Limit]) -> str | None:
    """The bounds for people, `price >= 10 and price <= 20`; None where there is none."""
    return " and ".join(map(str, limits)) or None


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _number(text: str) -> float:
    return float(text.replace(",", ""))
