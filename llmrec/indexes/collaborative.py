"""Items that the same people take share the first numbers of their codes: a tree of clusters of the train histories.

The collaborative indexing of "How to Index Item IDs" (Hua et al., 2023): items are the nodes of a graph whose edges
count how often two of them stand in one history; spectral clustering (Ng, Jordan and Weiss, 2001) splits it, then each
part, until a part is small enough to number its items. The code is the way down, then the number.

Departures: pairs count within a window, which bounds the work on long histories; items that hang together with few
others, or with none, are no matter for a spectrum and get branches of their own; a leaf is never larger than asked.
"""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from tqdm.auto import tqdm

from llmrec.component import Component
from llmrec.data.catalog import Catalog
from llmrec.data.interactions import Interactions
from llmrec.encoders.behaviour import cooccurrence
from llmrec.encoders.vectors import require_items, truncated_svd, unit_rows
from llmrec.errors import RecipeError
from llmrec.indexes.base import END, ItemIndex
from llmrec.indexes.kmeans import kmeans
from llmrec.indexes.numbering import sizes_of, with_numbers
from llmrec.indexes.provenance import provenance_of

ItemRows = NDArray[np.int64]


class Leaf(NamedTuple):
    """Items at the end of one way down: `path`, a code a level, and `rows`, `int64[n]` in ascending order."""

    path: tuple[int, ...]
    rows: ItemRows


class CollaborativeIndex(Component):
    """Codes by recursive spectral clustering of what is taken together.

    Args:
        clusters: parts of each split.
        leaf_size: a part of at most so many items is numbered; the size of the number's codebook.
        window: two events of one user count as a pair when they are at most this many positions apart.
        seed: of the starts.
    """

    kind: ClassVar[str] = "collaborative"

    clusters: int = Field(default=20, ge=2)
    leaf_size: int = Field(default=100, ge=1)
    window: int = Field(default=20, ge=1)
    seed: int = Field(default=0, ge=0)

    def build(self, catalog: Catalog, train: Interactions) -> ItemIndex:
        """Codes of different lengths for every catalog row, from train rows only.

        Raises:
            DataError: the catalog has no item.
        """
        leaves = self.leaves(catalog, train)
        paths, numbers = paths_of(leaves, len(catalog)), np.empty(len(catalog), np.int64)
        for leaf in leaves:
            numbers[leaf.rows] = np.arange(len(leaf.rows))
        codes = with_numbers(paths, numbers)
        sizes = sizes_of(codes)
        provenance = provenance_of(
            self.kind, self.settings(), catalog.items, codes, sizes, resolved_by="numbering", plain=paths
        )
        return ItemIndex(codes, sizes, provenance)

    def leaves(self, catalog: Catalog, train: Interactions) -> list[Leaf]:
        """The leaves of the tree; every item is in one, and no path begins another one."""
        require_items(len(catalog))
        return leaves_of(cooccurrence(train, self.window), self.clusters, self.leaf_size, self.seed)

    def add(self, index: ItemIndex, catalog: Catalog) -> ItemIndex:
        """Refused: items are known by who took them, and nobody has taken a new one.

        Raises:
            RecipeError: always.
        """
        raise RecipeError(
            f"an index of kind 'collaborative' cannot place {len(catalog) - len(index)} new items: it knows items by "
            "who took them. Build it again when they have been taken, or use a kind that reads texts, such as rqkmeans."
        )


def paths_of(leaves: list[Leaf], items: int) -> NDArray[np.int32]:
    """The path of every item, `int32[N, L]`, `END` behind a shorter one."""
    paths = np.full((items, max(len(leaf.path) for leaf in leaves)), END, np.int32)
    for leaf in leaves:
        paths[leaf.rows, : len(leaf.path)] = leaf.path
    return paths


def leaves_of(graph: Any, clusters: int, leaf_size: int, seed: int) -> list[Leaf]:
    """Split a graph, then its parts, until no part has more than `leaf_size` nodes.

    Args:
        graph: symmetric SciPy CSR matrix `[N, N]` of edge weights, N at least 1.
        clusters: parts of a split; one more where some nodes hang together with few others.
        leaf_size: most nodes of a leaf. seed: of the starts.
    """
    rng, leaves = np.random.default_rng(seed), []
    waiting: list[Leaf] = [Leaf((), np.arange(graph.shape[0]))]
    with tqdm(total=graph.shape[0], desc="cluster items", unit="item", delay=2, leave=False) as progress:
        while waiting:
            path, rows = waiting.pop()
            if len(rows) <= leaf_size:
                leaves.append(Leaf(path, rows))
                progress.update(len(rows))
                continue
            parts = _parts(graph[rows][:, rows], clusters, leaf_size, rng)
            waiting.extend(Leaf((*path, code), rows[part]) for code, part in enumerate(parts))
    return leaves


def _parts(graph: Any, clusters: int, leaf_size: int, rng: np.random.Generator) -> list[ItemRows]:
    """At least two parts of a graph of more than `leaf_size` nodes, ordered by their first nodes.

    Connected components of more than `leaf_size` nodes are clustered. All others together are one part, the last one;
    where there is nothing else, they are cut into pieces, component after component.
    """
    from scipy.sparse.csgraph import connected_components

    component = connected_components(graph, directed=False)[1]
    large = np.bincount(component)[component] > leaf_size
    many, few = np.flatnonzero(large), np.flatnonzero(~large)
    if not many.size:
        return _pieces(np.argsort(component, kind="stable"), clusters, leaf_size)
    labels = spectral_labels(graph[many][:, many], clusters, rng)
    parts = [many[labels == label] for label in range(labels.max() + 1)]
    if few.size:
        return [*parts, few]
    return parts if len(parts) > 1 else _pieces(many, clusters, leaf_size)


def _pieces(nodes: ItemRows, clusters: int, leaf_size: int) -> list[ItemRows]:
    """Nodes in a given order cut into at most `clusters` stretches that differ by at most one in length."""
    count = min(clusters, -(-len(nodes) // leaf_size))
    return [np.sort(piece) for piece in np.array_split(nodes, count)]


def spectral_labels(graph: Any, clusters: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """k-means on the leading eigenvectors of the normalized graph, each node's row scaled to length one.

    They are the normalized Laplacian's with the smallest eigenvalues. `(I + D^-1/2 A D^-1/2) / 2` has no negative
    eigenvalue, so a truncated SVD finds them. In contrast to a Lanczos solver its time is bounded, and several
    eigenvectors of one eigenvalue (one a component) are nothing special.

    Args:
        graph: symmetric SciPy CSR matrix `[n, n]`; every node has an edge.
        clusters: most labels. rng: the source of chance.

    Returns:
        `int64[n]`; labels are numbered in the order in which they appear.
    """
    from scipy import sparse

    scale = sparse.diags_array(1 / np.sqrt(np.asarray(graph.sum(axis=1)).ravel()))
    walk = (scale @ graph @ scale + sparse.eye_array(graph.shape[0])) / 2
    vectors = truncated_svd(walk.tocsr().astype(np.float32), clusters, seed=int(rng.integers(2**31))).left
    labels = kmeans(unit_rows(vectors), clusters, rng).labels
    _, first, number = np.unique(labels, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[number]
