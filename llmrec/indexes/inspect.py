"""What an index does with its codes, in figures: are all used, do items begin alike that are alike or taken together?

    llmrec index inspect runs/demo --html report.html

A *prefix* of depth `d` is the first `d` numbers of a code, or the whole code where it ends earlier. A figure about
prefixes says little by itself, since fewer and larger prefixes always look better; so each stands beside the same
figure for codes that mean nothing.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from llmrec.data.catalog import Catalog
from llmrec.data.interactions import Interactions
from llmrec.errors import ArtifactError, DataError, did_you_mean
from llmrec.indexes.base import ItemIndex
from llmrec.indexes.prefixes import WINDOW, Groups, neighbours, prefix_groups, purity, purity_by_chance
from llmrec.indexes.provenance import level_usage

CATEGORY_COLUMNS = ("category", "categories", "genre", "genres", "brand")
"""Catalog columns that are taken as the items' category, the first one whose values repeat."""


@dataclass(frozen=True)
class LevelFigures:
    """One level.

    Args:
        size: codes that it has. used: codes that an item has. perplexity: `exp(entropy)` of the codes' shares.
        reconstruction_error: share of the vectors' squared length that this level and those before it leave
            undescribed; None where the index does not know.
    """

    size: int
    used: int
    perplexity: float
    reconstruction_error: float | None


@dataclass(frozen=True)
class DepthFigures:
    """The prefixes of one depth. What could not be measured is None.

    Args:
        prefixes: distinct ones. mean_items, largest: items a prefix.
        purity, purity_chance, neighbours, neighbours_chance: see `llmrec.indexes.prefixes`.
        lift: `neighbours / neighbours_chance`.
    """

    prefixes: int
    mean_items: float
    largest: int
    purity: float | None = None
    purity_chance: float | None = None
    neighbours: float | None = None
    neighbours_chance: float | None = None
    lift: float | None = None


@dataclass(frozen=True)
class Inspection:
    """All figures of an index.

    Args:
        kind, settings: what made it. items: how many have a code.
        lengths: numbers that a code has -> items with such a code, shortest first.
        colliding_before: items that shared their code with an earlier one before that was resolved, None if unknown.
        colliding, largest_bucket: items that share one now, and the most items on one code.
        levels: one a level. depths: one a prefix length, the whole code last.
        category: the catalog column of the purity. category_values: its distinct values.
        pairs: neighbours that were counted. window: see `llmrec.indexes.prefixes.WINDOW`.
        losses: of a training: `step`, `loss` and what else the technique recorded.
    """

    kind: str
    settings: dict[str, Any]
    items: int
    lengths: dict[int, int]
    colliding_before: int | None
    colliding: int
    largest_bucket: int
    levels: list[LevelFigures]
    depths: list[DepthFigures]
    category: str | None = None
    category_values: int | None = None
    pairs: int | None = None
    window: int | None = None
    losses: list[dict[str, float]] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)


def inspect(
    index: ItemIndex,
    catalog: Catalog | None = None,
    train: Interactions | None = None,
    category: str | None = None,
    window: int = WINDOW,
) -> Inspection:
    """Measure an index.

    Args:
        index: of at least one item.
        catalog: its items; without it there is no purity.
        train: their train rows; without them there are no neighbours.
        category: a catalog column; the first of `CATEGORY_COLUMNS` whose values repeat when None.
        window: two train events of one user are neighbours when they are at most so many positions apart.

    Raises:
        ArtifactError: the index is empty, or catalog or train are not of its items.
        DataError: the catalog has no such column.
    """
    for name, other in (("catalog", catalog), ("train data", None if train is None else train.items)):
        if other is not None and len(other) != len(index):
            raise ArtifactError(f"the {name} has {len(other)} items, the index {len(index)}. Give those of the index.")
    if not len(index):
        raise ArtifactError("the index has no item. Build it again.")
    groups = prefix_groups(index.codes)
    column = category_column(catalog, category) if catalog is not None else None
    values = categories(catalog, column)[0] if catalog is not None and column else None
    together = neighbours(groups, train, window) if train is not None else None
    made = _Provenance(index.provenance)
    lengths = np.bincount(index.lengths)
    last = np.bincount(groups[-1])
    return Inspection(
        kind=made.kind,
        settings=made.settings,
        items=len(index),
        lengths={int(length): int(lengths[length]) for length in np.flatnonzero(lengths)},
        colliding_before=made.colliding_before,
        colliding=len(index) - len(last),
        largest_bucket=int(last.max()),
        levels=[
            LevelFigures(**usage, reconstruction_error=made.reconstruction_error(level))
            for level, usage in enumerate(level_usage(index.codes, index.level_sizes))
        ],
        depths=[
            _depth(group, values, *(together.of(depth) if together else (None, None)))
            for depth, group in enumerate(groups)
        ],
        category=column,
        category_values=None if values is None else len(np.unique(values[values >= 0])),
        pairs=together.pairs if together else None,
        window=window if together else None,
        losses=made.losses,
    )


class _Provenance:
    """What an index says of its making, where it is of the kind that llmrec writes; anybody may have written it."""

    def __init__(self, found: dict[str, Any]) -> None:
        self.found = found

    @property
    def kind(self) -> str:
        return "".join(filter(str.isprintable, str(self.found.get("kind", "")))) or "unknown"

    @property
    def settings(self) -> dict[str, Any]:
        return _dictionary(self.found.get("settings"))

    @property
    def colliding_before(self) -> int | None:
        number = _number(_dictionary(_dictionary(self.found.get("collisions")).get("before")).get("colliding"))
        return None if number is None else int(number)

    def reconstruction_error(self, level: int) -> float | None:
        errors = self.found.get("reconstruction_error")
        return _number(errors[level]) if isinstance(errors, list) and level < len(errors) else None

    @property
    def losses(self) -> list[dict[str, float]]:
        """The numbers that a training recorded; other entries, such as lists, are left out."""
        rows = self.found.get("losses")
        numbers = [
            {str(name): number for name, value in _dictionary(row).items() if (number := _number(value)) is not None}
            for row in (rows if isinstance(rows, list) else [])
        ]
        return [row for row in numbers if row]


def _dictionary(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _number(value: Any) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e12 else None


def _depth(group: Groups, values: Groups | None, near: float | None, chance: float | None) -> DepthFigures:
    sizes = np.bincount(group)
    return DepthFigures(
        prefixes=len(sizes),
        mean_items=len(group) / len(sizes),
        largest=int(sizes.max()),
        purity=None if values is None else purity(group, values),
        purity_chance=None if values is None else purity_by_chance(group, values),
        neighbours=near,
        neighbours_chance=chance,
        lift=near / chance if near is not None and chance else None,
    )


def category_column(catalog: Catalog, wanted: str | None = None) -> str | None:
    """The column that says what kind of thing an item is, None where the catalog has none.

    Raises:
        DataError: `wanted` is not a column.
    """
    columns = catalog.table.column_names
    if wanted is not None:
        if wanted not in columns:
            raise DataError(f"the catalog has no column '{wanted}'.", fix=did_you_mean(wanted, columns))
        return wanted
    for name in CATEGORY_COLUMNS:
        if name in columns:
            values, _ = categories(catalog, name)
            known = values[values >= 0]
            if 2 <= len(np.unique(known)) <= len(known) / 2:
                return name
    return None


def categories(catalog: Catalog, column: str) -> tuple[Groups, list[str]]:
    """Each item's category, the column's value as a whole.

    Returns:
        `int32[N]` numbers, -1 where the value is empty; and the values that they stand for.
    """
    encoded = pa.array(catalog.texts([column]), pa.string()).dictionary_encode()
    names = encoded.dictionary.to_pylist()
    numbers = encoded.indices.to_numpy().astype(np.int32)
    if "" in names:
        numbers[numbers == names.index("")] = -1
    return numbers, names
