"""Optimized product quantization: parallel codes, each of its own part of the rotated vector.

The vector is turned so that its blocks of columns carry alike much and depend little on each other, and k-means groups
every block by itself (Ge, He, Ke and Sun, 2013). RPG (Hou et al., 2025, arXiv 2506.05781) makes its parallel item codes
so. The levels are *parallel*, not coarse to fine: a level says nothing about what the others left over, so alike items
agree on some levels, not on the first ones. Their common prefixes mean less, and a beam search, which decides on the
first levels first, has less to go by than with `rqkmeans`; the blocks are put in the order of their variance to soften
that. In return every level describes as much as any other, and errors do not pile up along the code.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field
from tqdm.auto import tqdm

from llmrec.encoders.base import State
from llmrec.encoders.vectors import one_blas_thread
from llmrec.indexes.kmeans import kmeans, sample_of
from llmrec.indexes.numbering import Levels
from llmrec.indexes.quantized import QuantizedIndex, Quantizer, Vectors

SAMPLE = 128
"""Points a code that the rotation is learned from, at most; the codebooks then follow all points."""

REFINE = 4
"""k-means iterations between two rotations, as in Faiss."""


class OPQIndex(QuantizedIndex):
    """Codes by optimized product quantization; see `QuantizedIndex` for the settings that all quantizers share.

    Args:
        levels: codebook sizes, one a block of columns. All are alike in the paper.
        iterations: most k-means iterations a block, at the start and at the end.
        rotations: how often the rotation is fitted to the codebooks; 0 keeps the one that the variances suggest.
    """

    kind: ClassVar[str] = "opq"

    levels: Levels = [256, 256, 256]
    iterations: int = Field(default=25, ge=1)
    rotations: int = Field(default=20, ge=0)

    def fit_quantizer(self, vectors: Vectors) -> Quantizer:
        """A rotation from a sample, then codebooks that are zero outside of their own block."""
        rng = np.random.default_rng([self.seed, len(self.levels)])
        sample = sample_of(vectors, SAMPLE * max(self.levels), rng)
        rotation, starts = learned_rotation(sample, self.levels, self.seed, self.iterations, self.rotations)
        latents = rotated(vectors, rotation)
        codebooks = []
        for level, columns in enumerate(blocks(rotation.shape[1], len(self.levels))):
            block = np.ascontiguousarray(latents[:, columns])
            rng = np.random.default_rng([self.seed, level])
            name = f"k-means, block {level + 1} of {len(self.levels)}"
            codebook = np.zeros((self.levels[level], latents.shape[1]), np.float32)
            start = starts[level] if starts else None
            codebook[:, columns] = kmeans(block, len(codebook), rng, self.iterations, name, start).centroids
            codebooks.append(codebook)
        return Quantizer(latents, codebooks, {"rotation": rotation})

    def latents(self, vectors: Vectors, state: State) -> Vectors:
        """The vectors, rotated as those that the index was built from."""
        return rotated(vectors, state["rotation"])


def learned_rotation(
    points: Vectors, levels: list[int], seed: int, iterations: int, rotations: int
) -> tuple[Vectors, list[Vectors]]:
    """By turns: codebooks for the rotated points, and the rotation that brings the points closest to their codes.

    The second is the orthogonal Procrustes problem: with `points.T @ decoded = U S V`, it is `U V` (section 3.1).

    Args:
        points: `float32[N, D]`. levels: codes a block. seed: of the k-means starts.
        iterations: of the first k-means. rotations: turns.

    Returns:
        `float32[D, E]` with orthonormal rows, E the next multiple of the number of blocks; and a codebook
        `float32[K, E / blocks]` a block, none after 0 turns.
    """
    rotation = balanced_rotation(points, len(levels))
    codebooks: list[Vectors] = []
    for turn in tqdm(range(rotations), desc="rotation", unit="turn", delay=2, leave=False):
        turned = rotated(points, rotation)
        decoded, starts, codebooks = np.empty_like(turned), codebooks, []
        for level, columns in enumerate(blocks(turned.shape[1], len(levels))):
            block = np.ascontiguousarray(turned[:, columns])
            rng = np.random.default_rng([seed, level])
            most, start = (REFINE, starts[level]) if turn else (iterations, None)
            clusters = kmeans(block, levels[level], rng, most, f"k-means, block {level + 1}", start)
            decoded[:, columns] = clusters.centroids[clusters.labels]
            codebooks.append(clusters.centroids)
        with one_blas_thread():
            left, _, right = np.linalg.svd(points.T.astype(np.float64) @ decoded, full_matrices=False)
            rotation = np.asarray(left @ right, np.float32)
    return rotation, codebooks


def balanced_rotation(points: Vectors, count: int) -> Vectors:
    """Principal axes, dealt to the blocks so that the products of their variances are alike (section 3.2).

    Best for normally distributed points. The strongest axis goes to the block with the smallest product that has a
    column left, then the next; blocks with more variance in sum come first.

    Args:
        points: `float32[N, D]`. count: blocks.

    Returns:
        `float32[D, E]` with orthonormal rows; where D does not fill the blocks, some columns are zero.
    """
    dimensions = points.shape[1]
    width = -(-dimensions // count)
    centred = points.astype(np.float64) - points.mean(axis=0, dtype=np.float64)
    with one_blas_thread():
        variances, axes = np.linalg.eigh(centred.T @ centred)
    order = np.argsort(-variances, kind="stable")
    variances, axes = variances[order].clip(min=0), axes[:, order]
    floor = max(float(variances[0]) * 1e-6, 1e-30)
    weights = np.log(variances.clip(min=floor) / floor)  # all positive: an axis more never makes a product smaller
    dealt: list[list[int]] = [[] for _ in range(count)]
    for axis in range(dimensions):
        with_room = [block for block in dealt if len(block) < width]
        min(with_room, key=lambda block: weights[block].sum()).append(axis)
    dealt.sort(key=lambda block: -variances[block].sum())
    rotation = np.zeros((dimensions, count * width), np.float32)
    for columns, block in zip(blocks(count * width, count), dealt, strict=True):
        rotation[:, columns][:, : len(block)] = axes[:, block]
    return rotation


def blocks(width: int, count: int) -> list[slice]:
    """The columns of every block, all equally wide."""
    return [slice(first, first + width // count) for first in range(0, width, width // count)]


def rotated(vectors: Vectors, rotation: Vectors) -> Vectors:
    """`float32[N, E]`, the same on any number of cores."""
    with one_blas_thread():
        return np.asarray(vectors @ rotation, np.float32)
