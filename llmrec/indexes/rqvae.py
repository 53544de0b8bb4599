"""RQ-VAE: an autoencoder whose latents are described by residual codes, both learned together.

After TIGER (Rajput et al., 2023, arXiv:2305.05065) and LC-Rec (Zheng et al., 2024, arXiv:2311.09049).
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from llmrec.encoders.base import State
from llmrec.indexes.autoencoder import Autoencoder, Schedule, decoded_errors, restored, train
from llmrec.indexes.kmeans import kmeans
from llmrec.indexes.quantized import Levels, QuantizedIndex, Quantizer, Vectors

Update = Literal["ema", "gradient"]


class RQVAEIndex(QuantizedIndex):
    kind: ClassVar[str] = "rqvae"

    levels: Levels = [256, 256, 256]
    nested_dropout: float = Field(default=0.0, ge=0, lt=1)
    latent_dimensions: int = Field(default=64, ge=1)
    hidden: list[int] = [512, 256, 128]
    codebook_update: Update = "ema"
    ema_decay: float = Field(default=0.99, gt=0, lt=1)
    commitment: float = Field(default=0.25, ge=0)
    revive_after: int = Field(default=50, ge=0)
    steps: int = Field(default=2000, ge=1)
    warmup: float = Field(default=0.2, ge=0, lt=1)
    batch_size: int = Field(default=256, ge=1)
    learning_rate: float = Field(default=2e-3, gt=0)

    def fit_quantizer(self, vectors: Vectors) -> Quantizer:
        random = torch.Generator().manual_seed(self.seed)
        model = Autoencoder([vectors.shape[1], *self.hidden, self.latent_dimensions], random)
        quantizer = ResidualQuantizer(
            self.levels, self.latent_dimensions, self.codebook_update, self.ema_decay, self.commitment,
            self.revive_after, self.seed,
        )
        sample = max(self.batch_size, 32 * max(self.levels))
        schedule = Schedule(self.steps, self.batch_size, self.learning_rate, self.nested_dropout, int(self.warmup * self.steps), sample)
        losses = train(model, quantizer, vectors, len(self.levels), schedule, random, "RQ-VAE")
        latents = model.encode(vectors)
        codebooks = [codebook.detach().numpy() for codebook in quantizer.codebooks]
        errors = decoded_errors(model, vectors, latents, codebooks)
        return Quantizer(latents, codebooks, model.state(), {"decoded_error": errors, "losses": losses})

    def latents(self, vectors: Vectors, state: State) -> Vectors:
        return restored(state).encode(vectors)


class ResidualQuantizer(nn.Module):
    def __init__(self, levels, dimensions, update, decay, commitment, revive_after, seed) -> None:
        super().__init__()
        learned = update == "gradient"
        self.codebooks = nn.ParameterList(
            [nn.Parameter(torch.zeros(k, dimensions), requires_grad=learned) for k in levels]
        )
        self.update, self.decay, self.commitment, self.revive_after = update, decay, commitment, revive_after
        self.seed = seed
        self.random = torch.Generator().manual_seed(seed + 1)
        self.counts = [torch.ones(k) for k in levels]
        self.sums = [torch.zeros(k, dimensions) for k in levels]
        self.idle = [torch.zeros(k, dtype=torch.int64) for k in levels]

    @torch.no_grad()
    def start(self, latents: Tensor) -> None:
        residuals = latents.numpy()
        for level, codebook in enumerate(self.codebooks):
            clusters = kmeans(residuals, len(codebook), np.random.default_rng([self.seed, level]), 10, "k-means start")
            codebook.copy_(torch.from_numpy(clusters.centroids))
            self.sums[level].copy_(codebook)
            residuals = residuals - clusters.centroids[clusters.labels]

    def learned(self): return [c for c in self.codebooks if c.requires_grad]

    def quantize(self, latents: Tensor, kept) -> tuple[Tensor, Tensor]:
        residuals, added, left = latents, torch.zeros(()), latents.detach()
        for level, codebook in enumerate(self.codebooks):
            with torch.no_grad():
                labels = (codebook.square().sum(1) / 2 - residuals @ codebook.T).argmin(1)
            chosen = codebook[labels]
            added = added + self.commitment * (residuals - chosen.detach()).square().mean()
            if self.update == "gradient":
                added = added + (residuals.detach() - chosen).square().mean()
            self._adapt(level, residuals.detach(), labels)
            residuals = residuals - chosen.detach()
            left = torch.where(level < kept[:, None], residuals.detach(), left)
        return latents - left, added

    @torch.no_grad()
    def _adapt(self, level: int, residuals: Tensor, labels: Tensor) -> None:
        codebook, counts, sums, idle = self.codebooks[level], self.counts[level], self.sums[level], self.idle[level]
        here = torch.bincount(labels, minlength=len(codebook)).float()
        if self.update == "ema":
            counts.lerp_(here, 1 - self.decay)
            sums.lerp_(torch.zeros_like(sums).index_add_(0, labels, residuals), 1 - self.decay)
            n = counts.sum()
            smooth = (counts + 1e-5) / (n + 1e-5 * len(codebook)) * n
            codebook.copy_(sums / smooth[:, None])
        idle += 1
        idle[here > 0] = 0
        dead = (idle >= self.revive_after).nonzero().flatten() if self.revive_after else idle[:0]
        if len(dead):
            drawn = residuals[torch.randint(len(residuals), (len(dead),), generator=self.random)]
            codebook[dead] = drawn
            sums[dead], counts[dead], idle[dead] = drawn, 1.0, 0

    def used(self) -> list[int]:
        return [int((idle < 50).sum()) for idle in self.idle]
