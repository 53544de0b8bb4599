"""A small autoencoder whose latents a technique makes discrete: what `rqvae` and `fsq` share.

One torch thread and a random source of its own make the weights depend on vectors and seed alone: the same bytes on any
number of cores of one kind of processor, and nothing changes for the torch code around it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from tqdm.auto import tqdm

from llmrec.encoders.base import State
from llmrec.indexes.quantized import residual_codes

CHUNK = 8192
"""Rows that are encoded at once. Memory beside vectors and latents is one chunk's activations."""

RECORDS = 50
"""Most entries in the history of a training."""

Vectors = NDArray[np.float32]


class Bottleneck(Protocol):
    """What makes latents discrete during the training; its parameters train along."""

    def start(self, latents: Tensor) -> None:
        """Called once, before the first step that quantizes, with latents `float32[M, E]` of random items."""
        ...

    def quantize(self, latents: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
        """What the decoder gets for `float32[B, E]`, differentiable straight through, and a loss to add.

        Args:
            latents: `float32[B, E]`. kept: `int64[B]`, how many first levels the decoder may see of each item.
        """
        ...

    def learned(self) -> list[nn.Parameter]:
        """What gradients change."""
        ...

    def used(self) -> list[int]:
        """Codes of each level that were used lately."""
        ...


class Schedule(NamedTuple):
    """How to train.

    Args:
        steps: batches. batch_size: items a batch; all of them where there are fewer.
        learning_rate: Adam's, constant.
        nested_dropout: share of the items in a batch of which the decoder sees only the first levels.
        warmup: first steps, in which nothing is quantized.
        sample: items whose latents `Bottleneck.start` sees.
    """

    steps: int
    batch_size: int
    learning_rate: float
    nested_dropout: float = 0.0
    warmup: int = 0
    sample: int = 1


class Perceptron(nn.Module):
    """Linear layers with ReLU between them, and a linear path beside them.

    The path lets a short training start near principal components instead of spending itself on finding them.

    Args:
        sizes: of the layers, first the inputs. random: of the first weights (He's initialisation, biases zero).
    """

    def __init__(self, sizes: list[int], random: torch.Generator) -> None:
        super().__init__()
        pairs = list(zip(sizes[:-1], sizes[1:], strict=True))
        self.layers = nn.ModuleList(_linear(*pair, random, gain=2.0) for pair in pairs)
        self.path = _linear(sizes[0], sizes[-1], random, gain=1.0)
        with torch.no_grad():
            self.layers[-1].weight *= 0.1  # the path leads at first

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = inputs
        for layer in self.layers[:-1]:
            hidden = functional.relu(layer(hidden))
        return self.path(inputs) + self.layers[-1](hidden)


class Autoencoder(nn.Module):
    """Encoder and decoder, the one a mirror of the other.

    Vectors are centred and scaled by one number, so distances keep their proportions, and one learning rate fits
    vectors of any length.

    Args:
        sizes: of the layers, `[D, ..., E]`. random: of the first weights.
    """

    centre: Tensor
    scale: Tensor

    def __init__(self, sizes: list[int], random: torch.Generator) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(sizes[0]))
        self.register_buffer("scale", torch.ones(1))
        self.encoder = Perceptron(sizes, random)
        self.decoder = Perceptron(sizes[::-1], random)

    def standardise(self, vectors: Vectors) -> None:
        """Take centre and scale from `float32[N, D]`."""
        centre = vectors.mean(axis=0, dtype=np.float64).astype(np.float32)
        spread = float(np.sqrt(np.square(vectors - centre).mean(dtype=np.float64)))
        self.centre.copy_(torch.from_numpy(centre))
        self.scale.fill_(spread or 1.0)

    def encode(self, vectors: Vectors) -> Vectors:
        """Latents `float32[n, E]` of `float32[n, D]`; on one thread, chunk by chunk."""
        latents = np.empty((len(vectors), self.encoder.path.out_features), np.float32)
        with one_torch_thread(), torch.no_grad():
            for start in range(0, len(vectors), CHUNK):
                part = (torch.tensor(vectors[start : start + CHUNK]) - self.centre) / self.scale
                latents[start : start + CHUNK] = self.encoder(part).numpy()
        return latents

    def decode(self, latents: Vectors) -> Iterator[tuple[int, Vectors]]:
        """Vectors of latents `float32[N, E]`, in chunks: the first row, and `float32[n, D]`."""
        with one_torch_thread(), torch.no_grad():
            for start in range(0, len(latents), CHUNK):
                rebuilt = self.decoder(torch.tensor(latents[start : start + CHUNK]))
                yield start, (rebuilt * self.scale + self.centre).numpy()

    def state(self) -> State:
        """What `restored` needs to encode, as named float32 arrays."""
        return {name: value.numpy() for name, value in self.state_dict().items() if not name.startswith("decoder.")}


def restored(state: State) -> Autoencoder:
    """An autoencoder that encodes as the one whose `state` this is; its decoder is not trained."""
    sizes = [state["centre"].shape[0]]
    while (bias := state.get(f"encoder.layers.{len(sizes) - 1}.bias")) is not None:
        sizes.append(len(bias))
    model = Autoencoder(sizes, torch.Generator())
    model.load_state_dict({name: torch.tensor(value) for name, value in state.items()}, strict=False)
    return model


def train(
    model: Autoencoder,
    bottleneck: Bottleneck,
    vectors: Vectors,
    levels: int,
    schedule: Schedule,
    random: torch.Generator,
    name: str,
) -> list[dict[str, Any]]:
    """Minimise the mean squared error of the vectors, plus what the bottleneck adds.

    Args:
        model: trained in place. bottleneck: trained in place.
        vectors: `float32[N, D]`, N at least 1. levels: that the bottleneck has.
        schedule: how. random: of the batches. name: what the progress bar says.

    Returns:
        At most `RECORDS` entries of `step`; `loss` and `reconstruction`, means over the steps since the entry before
        (of centred vectors of unit variance: a reconstruction of 1 is no better than their centre); and `used`, the
        codes used lately on each level, from the first step that quantizes.
    """
    model.standardise(vectors)
    with one_torch_thread(), torch.enable_grad():
        points = (torch.tensor(vectors) - model.centre) / model.scale  # (N, D)
        optimizer = torch.optim.Adam([*model.parameters(), *bottleneck.learned()], lr=schedule.learning_rate)
        batches = _batches(len(points), schedule.batch_size, random)
        history: list[dict[str, Any]] = []
        sums, since = np.zeros(2), 0
        bar = tqdm(range(schedule.steps), desc=name, unit="step", delay=2, leave=False)
        for step in bar:
            batch = points[next(batches)]  # (B, D)
            latents, added = model.encoder(batch), torch.zeros(())  # (B, E)
            if step == schedule.warmup:
                with torch.no_grad():
                    bottleneck.start(model.encoder(points[_draw(len(points), schedule.sample, random)]))
            if step >= schedule.warmup:
                kept = _kept(len(batch), levels, schedule.nested_dropout, random)
                latents, added = bottleneck.quantize(latents, kept)
            reconstruction = functional.mse_loss(model.decoder(latents), batch)
            loss = reconstruction + added
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            sums, since = sums + (loss.item(), reconstruction.item()), since + 1
            if (step + 1) * RECORDS // schedule.steps > step * RECORDS // schedule.steps:
                used = bottleneck.used() if step >= schedule.warmup else None
                history.append(_record(step + 1, sums / since, used))
                bar.set_postfix(loss=history[-1]["loss"], refresh=False)
                sums, since = np.zeros(2), 0
        return history


def decoded_errors(model: Autoencoder, vectors: Vectors, latents: Vectors, codebooks: list[Vectors]) -> list[float]:
    """What is lost when the decoder sees the first level, the first two, ...: shares of the vectors' squared length.

    Unlike errors of latents, these can be compared between techniques.

    Args:
        model: trained. vectors: `float32[N, D]`. latents: `float32[N, E]`. codebooks: one `float32[K, E]` a level.
    """
    codes, _ = residual_codes(latents, codebooks)
    total = float(np.einsum("nd,nd->", vectors, vectors, dtype=np.float64)) or 1.0
    described, errors = np.zeros_like(latents), []
    for codebook, column in zip(codebooks, codes.T, strict=True):
        described += codebook[column]
        left = 0.0
        for start, rebuilt in model.decode(described):
            left += float(np.square(vectors[start : start + len(rebuilt)] - rebuilt).sum(dtype=np.float64))
        errors.append(round(left / total, 6))
    return errors


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """Torch on one thread: sums that cores share are added in another order on each count of cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _linear(inputs: int, outputs: int, random: torch.Generator, gain: float) -> nn.Linear:
    """A linear layer; torch's own first draw would use the global random source."""
    layer = nn.utils.skip_init(nn.Linear, inputs, outputs, dtype=torch.float32)
    nn.init.normal_(layer.weight, std=(gain / inputs) ** 0.5, generator=random)
    nn.init.zeros_(layer.bias)
    return layer


def _batches(count: int, size: int, random: torch.Generator) -> Iterator[Tensor]:
    """Rows, without end: each pass shuffles the items and leaves out the rest that fills no batch."""
    size = min(size, count)
    while True:
        order = torch.randperm(count, generator=random)
        yield from (order[start : start + size] for start in range(0, count - size + 1, size))


def _draw(count: int, size: int, random: torch.Generator) -> Tensor:
    """At most `size` distinct rows."""
    return torch.randperm(count, generator=random)[:size]


def _kept(count: int, levels: int, share: float, random: torch.Generator) -> Tensor:
    """How many levels the decoder sees of each item, `int64[B]`: all, but for a share of the items 1 to all but one."""
    if not share or levels == 1:
        return torch.full((count,), levels)
    fewer = torch.randint(1, levels, (count,), generator=random)
    return torch.where(torch.rand(count, generator=random) < share, fewer, levels)


def _record(step: int, means: NDArray[np.float64], used: list[int] | None) -> dict[str, Any]:
    """One entry of the history."""
    entry = {"step": step, "loss": round(float(means[0]), 6), "reconstruction": round(float(means[1]), 6)}
    return entry if used is None else {**entry, "used": used}
