"""Items of one category share the first numbers of their codes: the shop's own tree, then a number.

The semantic (metadata) indexing of "How to Index Item IDs" (Hua et al., 2023). Under every category its subcategories
are numbered first, in sorted order, and then the items that stand in it directly, so no code begins another one:

    Office ── 0 Paper ── 0, 1, 2    items of Office > Paper: (0, 0, 0), (0, 0, 1), (0, 0, 2)
          ├── 1 Pens ─── 0          an item of Office > Pens: (0, 1, 0)
          └── 2                     an item of Office: (0, 2)
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field

from llmrec.component import Component
from llmrec.data.catalog import Catalog
from llmrec.data.interactions import Interactions
from llmrec.encoders.base import State, pack_words, unpack_words
from llmrec.encoders.vectors import require_items
from llmrec.errors import RecipeError
from llmrec.indexes.base import END, ItemIndex
from llmrec.indexes.collisions import rank_within
from llmrec.indexes.numbering import sizes_of, with_numbers
from llmrec.indexes.provenance import provenance_of

Path = tuple[str, ...]
ROOT = 0


class SemanticIndex(Component):
    """Codes from a column of category paths, such as `Office > Paper | Home > Desk`.

    An item without a category stands in a branch of its own, whose name is empty.

    Args:
        category: the column.
        separator: between a category and its subcategory.
        alternatives: between several paths of one item. choose: which of them is used.
        max_depth: categories that are kept of a path, from the top; all when None.
    """

    kind: ClassVar[str] = "semantic"

    category: str = "categories"
    separator: str = Field(default=" > ", min_length=1)
    alternatives: str = Field(default=" | ", min_length=1)
    choose: Literal["first", "deepest"] = "first"
    max_depth: int | None = Field(default=None, ge=1)

    def build(self, catalog: Catalog, train: Interactions) -> ItemIndex:
        """Codes of different lengths for every catalog row; `train` is not used.

        Raises:
            DataError: the catalog has no item or no such column.
        """
        require_items(len(catalog))
        paths, path_of_item = self._paths(catalog)
        tree = Categories.of(paths)
        node = np.array([tree.way(path)[-1] for path in paths])[path_of_item]
        numbers = tree.children[node] + rank_within(node, np.zeros(len(node), np.float32))
        plain = tree.codes[node]
        codes = with_numbers(plain, numbers)
        sizes = sizes_of(codes)
        provenance = provenance_of(
            self.kind, self.settings(), catalog.items, codes, sizes, resolved_by="numbering", plain=plain
        )
        return ItemIndex(codes, sizes, provenance, tree.state())

    def add(self, index: ItemIndex, catalog: Catalog) -> ItemIndex:
        """New items get the next number of their category.

        Where a category is new, or its numbers are used up, the item stands directly in the nearest category above it
        that has one left; where there is none, among the items without a category. No number is new to the model.

        Raises:
            RecipeError: there is no such place.
        """
        tree = Categories.load(index.state)
        taken = tree.numbers_used(index.codes)
        room = np.array(index.level_sizes)[tree.depth]  # under each node
        room[ROOT] = 0  # what stands there are categories: a new one would need a code that was never trained
        new = Catalog(catalog.table.slice(len(index)))
        paths, path_of_item = self._paths(new)
        ways = [[*tree.way(("",)), *tree.way(path)] for path in paths]
        nodes, numbers = np.empty(len(new), np.int64), np.empty(len(new), np.int64)
        for row, way in enumerate(path_of_item):
            node = next((node for node in reversed(ways[way]) if taken[node] < room[node]), ROOT)
            if node == ROOT:
                raise RecipeError(
                    f"an index of kind 'semantic' has no place for the new item '{new.items[row]}' of category "
                    f"'{self.separator.join(paths[way])}': no category on this path is known and has a number left. "
                    "Build the index and train again with the new catalog, or give the item a category of the index."
                )
            nodes[row], numbers[row] = node, taken[node]
            taken[node] += 1
        codes = with_numbers(tree.codes[nodes], numbers)
        return index.grown(codes, catalog)

    def _paths(self, catalog: Catalog) -> tuple[list[Path], NDArray[np.int64]]:
        """The distinct texts of the column as paths, and for each item which one is its own, `int64[N]`."""
        texts = pa.array(catalog.texts([self.category]), pa.string()).dictionary_encode()
        return [self._path(text) for text in texts.dictionary.to_pylist()], texts.indices.to_numpy().astype(np.int64)

    def _path(self, text: str) -> Path:
        paths = []
        for alternative in text.split(self.alternatives):
            names = (" ".join(name.split()) for name in alternative.split(self.separator))
            paths.append(tuple(name for name in names if name)[: self.max_depth])
        known = [path for path in paths if path] or [("",)]
        return known[0] if self.choose == "first" else max(known, key=len)


@dataclass(frozen=True)
class Categories:
    """A tree of `M` named nodes, each before its children; node `ROOT` is above all categories.

    Args:
        names: `M` names, without a line break; the root's is empty.
        parent: `int32[M]`; the root is its own.
    """

    names: list[str]
    parent: NDArray[np.int32]

    @classmethod
    def of(cls, paths: list[Path]) -> Categories:
        """The tree that holds these paths; the children of a node are in sorted order."""
        nodes = sorted({path[:depth] for path in paths for depth in range(len(path) + 1)})
        place = {path: node for node, path in enumerate(nodes)}
        parent = np.array([place[path[:-1]] for path in nodes], np.int32)
        return cls([path[-1] if path else "" for path in nodes], parent)

    @classmethod
    def load(cls, state: State) -> Categories:
        return cls(unpack_words(state["category.names"]), state["category.parent"])

    def state(self) -> State:
        return {"category.names": pack_words(self.names), "category.parent": self.parent}

    @cached_property
    def children(self) -> NDArray[np.int64]:
        """`int64[M]`: how many each node has."""
        return np.bincount(self.parent[1:], minlength=len(self.names))

    @cached_property
    def depth(self) -> NDArray[np.int64]:
        """`int64[M]`: categories on the path to each node, itself included; 0 for the root."""
        return (self.codes != END).sum(axis=1)

    @cached_property
    def codes(self) -> NDArray[np.int32]:
        """`int32[M, D]`: the path to each node, each step as the number of the child; `END` behind it."""
        ways: list[list[int]] = [[]]
        born = [0] * len(self.names)
        for above in self.parent[1:].tolist():
            ways.append([*ways[above], born[above]])
            born[above] += 1
        deepest = max(map(len, ways))
        return np.array([way + [END] * (deepest - len(way)) for way in ways], np.int32)

    def way(self, path: Path) -> list[int]:
        """The nodes along a path from the root on, as far as the tree has them."""
        nodes = [ROOT]
        for name in path:
            if (child := self._child.get((nodes[-1], name))) is None:
                break
            nodes.append(child)
        return nodes

    def numbers_used(self, codes: NDArray[np.int32]) -> NDArray[np.int64]:
        """How many numbers are taken under each node, `int64[M]`, by its children and by items `int32[N, D + 1]`."""
        paths = codes.copy()
        paths[np.arange(len(codes)), (codes != END).sum(axis=1) - 1] = END
        distinct, counts = np.unique(paths[:, :-1], axis=0, return_counts=True)
        node = {tuple(path): node for node, path in enumerate(self.codes.tolist())}
        used = self.children.copy()
        used[[node[tuple(path)] for path in distinct.tolist()]] += counts
        return used

    @cached_property
    def _child(self) -> dict[tuple[int, str], int]:
        pairs = zip(self.parent[1:].tolist(), self.names[1:], strict=True)
        return {pair: node for node, pair in enumerate(pairs, start=1)}
