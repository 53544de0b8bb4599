"""Finite scalar quantization: every latent dimension is rounded to a few values, and groups of dimensions are levels.

Mentzer et al. (2023, arXiv:2309.15505); RecGPT (Jiang et al., 2025, arXiv:2506.06270) codes items so. There is no
codebook to learn, so none can collapse. And there is no residual: groups describe different dimensions, and by itself
nothing makes the first level coarser than the others. Nested dropout (Rippel, Gelbart and Adams, 2014, arXiv:1402.0915)
does it here: the decoder often sees the first groups alone, so they learn what matters most, and items that begin alike
are alike.

    llmrec run index/fsq data.root=PATH

Where this departs: a dimension with `n` values cuts (-1, 1) into `n` equal cells and takes their centres, for even and
odd `n` alike (the paper's outermost cells are half as wide, and its values are off the centre where `n` is even);
groups are ordered; the networks have a linear path (`llmrec.indexes.autoencoder`).
"""

from __future__ import annotations

import math
from typing import Annotated, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from llmrec.encoders.base import State
from llmrec.indexes.autoencoder import Autoencoder, decoded_errors, restored
from llmrec.indexes.quantized import QuantizedIndex, Quantizer, Vectors
from llmrec.indexes.training import Schedule, train

Group = Annotated[list[Annotated[int, Field(ge=2)]], Field(min_length=1)]
"""How many values each dimension of a code level has."""


class FSQIndex(QuantizedIndex):
    """Codes by finite scalar quantization; see `QuantizedIndex` for the settings that all quantizers share.

    Args:
        groups: one list a code level, of the values that each of its dimensions has: `[8, 6, 5]` is a level of 240
            codes, and the paper's choice for about 2^8. Dimensions of five values or more do best in the paper.
        nested_dropout: share of the items whose last groups are hidden from the decoder, at random. More of it gives
            the first level a larger part of the description, at the cost of the whole; 0 leaves groups without order.
        hidden: widths of the encoder's layers; the decoder mirrors them. Empty is linear.
        steps: batches. The time does not depend on the number of items; more than 100,000 deserve more steps.
        batch_size: items a step. learning_rate: Adam's.
    """

    kind: ClassVar[str] = "fsq"

    groups: list[Group] = Field(default=[[8, 6, 5], [8, 6, 5], [8, 6, 5]], min_length=1)
    nested_dropout: float = Field(default=0.5, ge=0, lt=1)
    hidden: list[Annotated[int, Field(ge=1)]] = [512, 256, 128]
    steps: int = Field(default=2000, ge=1)
    batch_size: int = Field(default=256, ge=1)
    learning_rate: float = Field(default=2e-3, gt=0)

    def fit_quantizer(self, vectors: Vectors) -> Quantizer:
        """Train on `float32[N, D]`.

        The report has `decoded_error`, see `decoded_errors`, and `losses`, see `train`.
        """
        random = torch.Generator().manual_seed(self.seed)
        dimensions = sum(len(group) for group in self.groups)
        model = Autoencoder([vectors.shape[1], *self.hidden, dimensions], random)
        schedule = Schedule(self.steps, self.batch_size, self.learning_rate, self.nested_dropout)
        losses = train(model, FiniteScalars(self.groups), vectors, schedule, random, "FSQ")
        latents, codebooks = np.tanh(model.encode(vectors)), grids(self.groups)
        errors = decoded_errors(model, vectors, latents, codebooks)
        return Quantizer(latents, codebooks, model.state(), {"decoded_error": errors, "losses": losses})

    def latents(self, vectors: Vectors, state: State) -> Vectors:
        """What the trained encoder makes of them, bounded: values in (-1, 1)."""
        return np.tanh(restored(state).encode(vectors))


class FiniteScalars:
    """Bounds latents by tanh and rounds them; a `Bottleneck` without anything to learn.

    Args:
        groups: values of every dimension, level by level.
    """

    def __init__(self, groups: list[list[int]]) -> None:
        self.sizes = torch.tensor([size for group in groups for size in group])  # (E,)
        self.widths = [len(group) for group in groups]
        self.level_of = torch.repeat_interleave(torch.arange(len(groups)), torch.tensor(self.widths))  # (E,)
        self.places = torch.tensor([math.prod(group[at + 1 :]) for group in groups for at in range(len(group))])
        self.touched = [torch.zeros(math.prod(group), dtype=torch.bool) for group in groups]

    @property
    def depth(self) -> int:
        """Levels."""
        return len(self.widths)

    def start(self, latents: Tensor) -> None:
        """Nothing to do."""

    def learned(self) -> list[Tensor]:
        """Nothing."""
        return []

    def quantize(self, latents: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
        """Cell centres for `float32[B, E]`, zero on hidden levels; no loss. See `Bottleneck`."""
        bounded = latents.tanh()
        cells = ((bounded.detach() + 1) / 2 * self.sizes).long().minimum(self.sizes - 1)  # (B, E)
        for touched, codes in zip(self.touched, (cells * self.places).split(self.widths, dim=1), strict=True):
            touched[codes.sum(1)] = True
        centres = (2 * cells + 1) / self.sizes - 1
        return (bounded + (centres - bounded).detach()) * (self.level_of < kept[:, None]), torch.zeros(())

    def used(self) -> list[int]:
        """How many codes of each level were used since this was asked last."""
        counts = [int(touched.sum()) for touched in self.touched]
        for touched in self.touched:
            touched.zero_()
        return counts


def grids(groups: list[list[int]]) -> list[Vectors]:
    """Codebooks with which residual assignment is rounding: cell centres on a level's own dimensions, zero elsewhere.

    The first dimension of a group counts most in the number of a code, as in `np.ravel_multi_index`.

    Args:
        groups: values of every dimension, level by level.

    Returns:
        One `float32[prod(group), E]` a level, where E is the number of dimensions of all levels.
    """
    codebooks, first = [], 0
    dimensions = sum(len(group) for group in groups)
    for group in groups:
        cells = np.stack(np.unravel_index(np.arange(math.prod(group)), group), axis=1)  # (K, E of the group)
        codebook = np.zeros((len(cells), dimensions), np.float32)
        codebook[:, first : first + len(group)] = (2 * cells + 1) / np.array(group) - 1
        codebooks.append(codebook)
        first += len(group)
    return codebooks
