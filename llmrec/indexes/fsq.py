"""Finite scalar quantization."""

from __future__ import annotations

from typing import Annotated, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from llmrec.encoders.base import State
from llmrec.indexes.autoencoder import Autoencoder, Schedule, decoded_errors, restored, train
from llmrec.indexes.quantized import QuantizedIndex, Quantizer, Vectors

Group = Annotated[list[Annotated[int, Field(ge=2)]], Field(min_length=1)]


class FSQIndex(QuantizedIndex):
    kind: ClassVar[str] = "fsq"

    groups: list[Group] = Field(default=[[8, 6, 5], [8, 6, 5], [8, 6, 5]], min_length=1)
    nested_dropout: float = Field(default=0.5, ge=0, lt=1)
    hidden: list[Annotated[int, Field(ge=1)]] = [512, 256, 128]
    steps: int = Field(default=2000, ge=1)
    batch_size: int = Field(default=256, ge=1)
    learning_rate: float = Field(default=2e-3, gt=0)

    def fit_quantizer(self, vectors: Vectors) -> Quantizer:
        random = torch.Generator().manual_seed(self.seed)
        scalars = Scalars(self.groups)
        model = Autoencoder([vectors.shape[1], *self.hidden, len(scalars.counts)], random)
        schedule = Schedule(self.steps, self.batch_size, self.learning_rate, self.nested_dropout)
        losses = train(model, scalars, vectors, len(self.groups), schedule, random, "FSQ")
        latents = np.tanh(model.encode(vectors))
        codebooks = grids(self.groups)
        errors = decoded_errors(model, vectors, latents, codebooks)
        return Quantizer(latents, codebooks, model.state(), {"decoded_error": errors, "losses": losses})

    def latents(self, vectors: Vectors, state: State) -> Vectors:
        return np.tanh(restored(state).encode(vectors))


class Scalars:
    def __init__(self, groups: list[list[int]]) -> None:
        self.groups = groups
        self.counts = torch.tensor([count for group in groups for count in group])
        self.group_of = torch.tensor([g for g, group in enumerate(groups) for _ in group])
        self.seen = [set() for _ in groups]

    def start(self, latents): pass

    def learned(self): return []

    def quantize(self, latents: Tensor, kept: Tensor):
        bounded = latents.tanh()
        cells = ((bounded + 1) / 2 * self.counts).floor().clamp(min=0).minimum(self.counts - 1)
        centres = (2 * cells + 1) / self.counts - 1
        shown = self.group_of < kept[:, None]
        return (bounded + (centres - bounded).detach()) * shown, torch.zeros(())

    def used(self): return []


def grids(groups):
    width, first, out = sum(map(len, groups)), 0, []
    for group in groups:
        cells = np.stack(np.unravel_index(np.arange(np.prod(group)), group), axis=1)
        g = np.zeros((len(cells), width), np.float32)
        g[:, first:first+len(group)] = (2 * cells + 1) / np.array(group) - 1
        out.append(g); first += len(group)
    return out
