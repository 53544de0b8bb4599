"""RQ-VAE: an autoencoder and the residual codes of its latents, learned together.

After TIGER (Rajput et al., 2023, arXiv:2305.05065), whose network and commitment weight are the defaults here, and
LC-Rec (Zheng et al., 2024, arXiv:2311.09049). As in residual k-means every level describes what the levels before left
over, so codes go from coarse to fine; here the space in which they do is learned along with them.

    llmrec run index/rqvae data.root=PATH

Where this departs: codebooks follow by moving averages (`codebook_update: gradient` is the papers' way); they start
from k-means after a while without codes, on more items than one batch; codes that nobody uses are moved; the networks
have a linear path (`llmrec.indexes.autoencoder`); and codes never collide in the end, by `llmrec.indexes.collisions`
instead of LC-Rec's optimal transport.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from llmrec.encoders.base import State
from llmrec.indexes.autoencoder import Autoencoder, decoded_errors, restored
from llmrec.indexes.kmeans import kmeans
from llmrec.indexes.numbering import Levels
from llmrec.indexes.quantized import QuantizedIndex, Quantizer, Vectors
from llmrec.indexes.training import Schedule, train

Update = Literal["ema", "gradient"]

ITEMS_A_CODE = 32
"""Items a code of the largest level that k-means sees at the start, where there are so many."""


class RQVAEIndex(QuantizedIndex):
    """Codes by an RQ-VAE; see `QuantizedIndex` for the settings that all quantizers share.

    Args:
        levels: codebook sizes, first level first.
        latent_dimensions: of the space that is quantized (TIGER: 32).
        hidden: widths of the encoder's layers; the decoder mirrors them. Empty is linear.
        codebook_update: `ema`, moving averages of the residuals on each code (van den Oord et al., 2017,
            arXiv:1711.00937, appendix A.1), or `gradient`, the squared distance to them as a part of the loss.
        ema_decay: share of the past that a moving average keeps each step.
        commitment: weight of the pull of latents towards their codes.
        revive_after: steps without an item after which a code moves to a residual drawn from the batch (as in Jukebox,
            Dhariwal et al., 2020, arXiv:2005.00341); 0 is never.
        nested_dropout: share of the items whose last levels are hidden from the decoder, at random; more of it gives
            the first level a larger part of the description, at the cost of the whole.
        steps: batches. The time does not depend on the number of items; more than 100,000 deserve more steps.
        warmup: share of the steps before codes come in.
        batch_size: items a step. learning_rate: Adam's.
    """

    kind: ClassVar[str] = "rqvae"

    levels: Levels = [256, 256, 256]
    latent_dimensions: int = Field(default=64, ge=1)
    hidden: list[Annotated[int, Field(ge=1)]] = [512, 256, 128]
    codebook_update: Update = "ema"
    ema_decay: float = Field(default=0.99, gt=0, lt=1)
    commitment: float = Field(default=0.25, ge=0)
    revive_after: int = Field(default=50, ge=0)
    nested_dropout: float = Field(default=0.0, ge=0, lt=1)
    steps: int = Field(default=2000, ge=1)
    warmup: float = Field(default=0.2, ge=0, lt=1)
    batch_size: int = Field(default=256, ge=1)
    learning_rate: float = Field(default=2e-3, gt=0)

    def fit_quantizer(self, vectors: Vectors) -> Quantizer:
        """Train on `float32[N, D]`.

        The report has `decoded_error`, see `decoded_errors`, and `losses`, see `train`.
        """
        random = torch.Generator().manual_seed(self.seed)
        model = Autoencoder([vectors.shape[1], *self.hidden, self.latent_dimensions], random)
        residual = ResidualQuantizer(
            self.levels,
            self.latent_dimensions,
            update=self.codebook_update,
            decay=self.ema_decay,
            commitment=self.commitment,
            revive_after=self.revive_after,
            random=random,
        )
        schedule = Schedule(
            self.steps,
            self.batch_size,
            self.learning_rate,
            self.nested_dropout,
            warmup=int(self.warmup * self.steps),
            sample=ITEMS_A_CODE * max(self.levels),
        )
        losses = train(model, residual, vectors, schedule, random, "RQ-VAE")
        latents, codebooks = model.encode(vectors), [codebook.detach().numpy() for codebook in residual.codebooks]
        errors = decoded_errors(model, vectors, latents, codebooks)
        return Quantizer(latents, codebooks, model.state(), {"decoded_error": errors, "losses": losses})

    def latents(self, vectors: Vectors, state: State) -> Vectors:
        """What the trained encoder makes of them."""
        return restored(state).encode(vectors)


class ResidualQuantizer:
    """Codebooks that learn while latents pass through; a `Bottleneck`.

    With residuals `r_0 = z` and `r_(l+1) = r_l - e_l`, where `e_l` is the entry nearest to `r_l`, the added loss is
    `sum_l commitment * |r_l - sg[e_l]|^2`, for `gradient` plus `sum_l |sg[r_l] - e_l|^2` (means over items and
    dimensions; `sg` stops gradients, also those from `r_l` back into earlier codebooks).

    Args:
        levels: codebook sizes. dimensions: of latents.
        update, decay, commitment, revive_after: as `codebook_update`, `ema_decay`, ... of `RQVAEIndex`.
        random: of revived codes and of the k-means start.
    """

    def __init__(
        self,
        levels: list[int],
        dimensions: int,
        *,
        update: Update,
        decay: float,
        commitment: float,
        revive_after: int,
        random: torch.Generator,
    ) -> None:
        self.update, self.decay, self.commitment = update, decay, commitment
        self.revive_after, self.random = revive_after, random
        self.codebooks: list[Tensor] = [nn.Parameter(torch.zeros(k, dimensions), update == "gradient") for k in levels]
        self.counts = [torch.ones(k) for k in levels]  # moving averages of a batch's items and residuals on a code
        self.sums = [torch.zeros(k, dimensions) for k in levels]
        self.idle = [torch.zeros(k, dtype=torch.int64) for k in levels]  # steps since an item came or it was revived
        self.touched = [torch.zeros(k, dtype=torch.bool) for k in levels]

    @property
    def depth(self) -> int:
        """Levels."""
        return len(self.codebooks)

    def learned(self) -> list[Tensor]:
        """The codebooks, where gradients update them."""
        return self.codebooks if self.update == "gradient" else []

    def start(self, latents: Tensor) -> None:
        """k-means of `float32[M, E]`, then of what it leaves over, level by level."""
        residuals = latents.numpy()
        for level, codebook in enumerate(self.codebooks):
            seed = int(torch.randint(2**62, (), generator=self.random))
            clusters = kmeans(residuals, len(codebook), np.random.default_rng(seed), 10, "k-means start")
            self._set(level, torch.arange(len(codebook)), torch.from_numpy(clusters.centroids), 1.0)
            residuals = residuals - clusters.centroids[clusters.labels]

    def quantize(self, latents: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
        """Codes for `float32[B, E]`, the loss above, and one step of the codebooks' learning; see `Bottleneck`."""
        residuals, left = latents, latents.detach()  # (B, E)
        added = torch.zeros(())
        for level, codebook in enumerate(self.codebooks):
            entries = codebook.detach()  # (K, E)
            labels = (entries.square().sum(1) / 2 - residuals.detach() @ entries.T).argmin(1)  # (B,)
            added = added + self.commitment * functional.mse_loss(residuals, entries[labels])
            if self.update == "gradient":
                added = added + functional.mse_loss(codebook[labels], residuals.detach())
            before, residuals = residuals.detach(), residuals - entries[labels]
            left = torch.where(level < kept[:, None], residuals.detach(), left)
            self._learn(level, before, labels)
        return latents - left, added  # the value is the sum of the entries, the gradient that of the latents

    def used(self) -> list[int]:
        """How many codes of each level were used since this was asked last."""
        counts = [int(touched.sum()) for touched in self.touched]
        for touched in self.touched:
            touched.zero_()
        return counts

    def _learn(self, level: int, residuals: Tensor, labels: Tensor) -> None:
        """Move averages, count idle steps, revive codes. Gradients are the optimizer's."""
        codebook, counts, sums, idle = (part[level] for part in (self.codebooks, self.counts, self.sums, self.idle))
        here = torch.bincount(labels, minlength=len(codebook))
        if self.update == "ema":
            counts.lerp_(here.float(), 1 - self.decay)
            sums.lerp_(torch.zeros_like(sums).index_add_(0, labels, residuals), 1 - self.decay)
            alive = counts > 1e-6  # an average of next to nothing has lost its digits: the code stays where it is
            codebook.detach()[alive] = sums[alive] / counts[alive, None]
        self.touched[level] |= here > 0
        idle += 1
        idle[here > 0] = 0
        if self.revive_after and (dead := (idle >= self.revive_after).nonzero().flatten()).numel():
            drawn = torch.randint(len(residuals), (dead.numel(),), generator=self.random)
            self._set(level, dead, residuals[drawn], len(residuals) / len(codebook))

    def _set(self, level: int, codes: Tensor, entries: Tensor, count: float) -> None:
        """Put codes `int64[k]` at `float32[k, E]`, as if each had had so many items a batch."""
        self.codebooks[level].detach()[codes] = entries
        self.counts[level][codes] = count
        self.sums[level][codes] = entries * count
        self.idle[level][codes] = 0
