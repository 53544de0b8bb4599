"""How an autoencoder learns together with what makes its latents discrete: one loop for `rqvae` and `fsq`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from tqdm.auto import tqdm

from llmrec.indexes.autoencoder import Autoencoder, Vectors, one_torch_thread

RECORDS = 50
"""Most entries in the history of a training."""


class Bottleneck(Protocol):
    """What makes latents discrete."""

    @property
    def depth(self) -> int:
        """Levels."""
        ...

    def start(self, latents: Tensor) -> None:
        """Called once, before the first step that quantizes, with latents `float32[M, E]` of random items."""
        ...

    def quantize(self, latents: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
        """What the decoder gets for `float32[B, E]`, differentiable straight through, and a loss to add.

        Args:
            latents: `float32[B, E]`. kept: `int64[B]`, how many first levels of each item the decoder may see.
        """
        ...

    def learned(self) -> list[Tensor]:
        """What the optimizer changes."""
        ...

    def used(self) -> list[int]:
        """How many codes of each level were used since this was asked last."""
        ...


class Schedule(NamedTuple):
    """How to train.

    Args:
        steps: batches. batch_size: items a batch; all of them where there are fewer.
        learning_rate: Adam's, constant.
        nested_dropout: share of the items in a batch of which the decoder sees only the first levels (Rippel, Gelbart
            and Adams, 2014), so that these learn to carry the most.
        warmup: first steps, in which nothing is quantized.
        sample: items whose latents `Bottleneck.start` sees.
    """

    steps: int
    batch_size: int
    learning_rate: float
    nested_dropout: float = 0.0
    warmup: int = 0
    sample: int = 1


def train(
    model: Autoencoder,
    bottleneck: Bottleneck,
    vectors: Vectors,
    schedule: Schedule,
    random: torch.Generator,
    name: str,
) -> list[dict[str, Any]]:
    """Minimise the mean squared error of the vectors, plus what the bottleneck adds.

    Args:
        model: trained in place. bottleneck: trained in place.
        vectors: `float32[N, D]`, N at least 1.
        schedule: how. random: of the batches. name: what the progress bar says.

    Returns:
        At most `RECORDS` entries: `step`; `loss` and `reconstruction`, means over the steps since the entry before
        (of centred vectors of unit variance: a reconstruction of 1 is no better than their centre); and `used`, the
        codes of each level that these steps used, once they quantize.
    """
    model.standardise(vectors)
    with one_torch_thread(), torch.enable_grad():
        optimizer = torch.optim.Adam([*model.parameters(), *bottleneck.learned()], lr=schedule.learning_rate)
        batches = _batches(len(vectors), schedule.batch_size, random)
        history: list[dict[str, Any]] = []
        sums, since = np.zeros(2), 0
        bar = tqdm(range(schedule.steps), desc=name, unit="step", delay=2, leave=False)
        for step in bar:
            batch = model.inputs(vectors[next(batches)])  # (B, D)
            latents, added = model.encoder(batch), torch.zeros(())  # (B, E)
            if step == schedule.warmup:
                drawn = torch.randperm(len(vectors), generator=random)[: schedule.sample]
                bottleneck.start(torch.from_numpy(model.encode(vectors[drawn.numpy()])))
            if step >= schedule.warmup:
                kept = _kept(len(batch), bottleneck.depth, schedule.nested_dropout, random)
                latents, added = bottleneck.quantize(latents, kept)
            reconstruction = functional.mse_loss(model.decoder(latents), batch)
            loss = reconstruction + added
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            sums += np.array([loss.item(), reconstruction.item()])
            since += 1
            if (step + 1) * RECORDS // schedule.steps > step * RECORDS // schedule.steps:
                history.append(_record(step + 1, sums / since, bottleneck.used() if step >= schedule.warmup else None))
                bar.set_postfix(loss=history[-1]["loss"], refresh=False)
                sums, since = np.zeros(2), 0
        return history


def _batches(count: int, size: int, random: torch.Generator) -> Iterator[NDArray[np.int64]]:
    """Rows, without end: each pass shuffles the items and leaves out the rest that fills no batch."""
    size = min(size, count)
    while True:
        order = torch.randperm(count, generator=random).numpy()
        yield from (order[start : start + size] for start in range(0, count - size + 1, size))


def _kept(count: int, depth: int, share: float, random: torch.Generator) -> Tensor:
    """How many levels the decoder sees of each item, `int64[B]`: all, but for a share of the items 1 to all but one."""
    if share == 0 or depth == 1:
        return torch.full((count,), depth)
    fewer = torch.randint(1, depth, (count,), generator=random)
    return torch.where(torch.rand(count, generator=random) < share, fewer, depth)


def _record(step: int, means: NDArray[np.float64], used: list[int] | None) -> dict[str, Any]:
    """One entry of the history."""
    entry = {"step": step, "loss": round(float(means[0]), 6), "reconstruction": round(float(means[1]), 6)}
    return entry if used is None else {**entry, "used": used}
