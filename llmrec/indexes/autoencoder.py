"""A small autoencoder of item vectors, whose latents `rqvae` and `fsq` turn into codes.

One torch thread and a random source of its own make the weights depend on vectors and seed alone: the same bytes on any
number of cores of one kind of processor, and nothing changes for the torch code around it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from llmrec.encoders.base import State
from llmrec.indexes.quantized import residual_codes

CHUNK = 8192
"""Rows that are encoded at once. Memory beside vectors and latents is one chunk's activations."""

Vectors = NDArray[np.float32]


class Perceptron(nn.Module):
    """Linear layers with ReLU between them, and a linear path beside them.

    The papers have no such path. With it a short training starts near principal components instead of spending itself
    on finding them.

    Args:
        sizes: of the layers, first the inputs. random: of the first weights (He's initialisation, biases zero).
    """

    def __init__(self, sizes: list[int], random: torch.Generator) -> None:
        super().__init__()
        layers = [_linear(inputs, outputs, random, gain=2.0) for inputs, outputs in pairwise(sizes)]
        with torch.no_grad():
            layers[-1].weight.mul_(0.1)  # the path leads at first
        self.layers = nn.ModuleList(layers)
        self.path = _linear(sizes[0], sizes[-1], random, gain=1.0)

    def forward(self, inputs: Tensor) -> Tensor:
        *inner, last = self.layers
        hidden = inputs
        for layer in inner:
            hidden = functional.relu(layer(hidden))
        outputs: Tensor = self.path(inputs) + last(hidden)
        return outputs


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
        self.latent_dimensions = sizes[-1]
        self.register_buffer("centre", torch.zeros(sizes[0], dtype=torch.float32))
        self.register_buffer("scale", torch.ones(1, dtype=torch.float32))
        self.encoder = Perceptron(sizes, random)
        self.decoder = Perceptron(sizes[::-1], random)

    def standardise(self, vectors: Vectors) -> None:
        """Take centre and scale from `float32[N, D]`; vectors that are all the same keep their length."""
        centre = vectors.mean(axis=0, dtype=np.float64).astype(np.float32)
        moved = vectors - centre
        spread = float(np.sqrt(np.einsum("nd,nd->", moved, moved, dtype=np.float64) / moved.size))
        self.centre.copy_(torch.from_numpy(centre))
        self.scale.fill_(spread if spread > 1e-6 * np.abs(centre).max() else 1.0)

    def inputs(self, vectors: Vectors) -> Tensor:
        """What the encoder gets for `float32[n, D]`."""
        return (torch.tensor(vectors) - self.centre) / self.scale

    def encode(self, vectors: Vectors) -> Vectors:
        """Latents `float32[n, E]` of `float32[n, D]`; on one thread, chunk by chunk."""
        latents = np.empty((len(vectors), self.latent_dimensions), np.float32)
        with one_torch_thread(), torch.no_grad():
            for start in range(0, len(vectors), CHUNK):
                latents[start : start + CHUNK] = self.encoder(self.inputs(vectors[start : start + CHUNK])).numpy()
        return latents

    def decode(self, latents: Vectors) -> Iterator[tuple[int, Vectors]]:
        """Vectors of latents `float32[n, E]`, in chunks: the first row, and `float32[m, D]`."""
        for start in range(0, len(latents), CHUNK):
            with one_torch_thread(), torch.no_grad():
                rebuilt = self.decoder(torch.tensor(latents[start : start + CHUNK])) * self.scale + self.centre
            yield start, rebuilt.numpy()

    def state(self) -> State:
        """What `restored` needs to encode, as named float32 arrays."""
        return {name: value.numpy() for name, value in self.state_dict().items() if not name.startswith("decoder.")}


def restored(state: State) -> Autoencoder:
    """An autoencoder that encodes as the one whose `state` this is; its decoder knows nothing."""
    sizes = [len(state["centre"])]
    while (bias := state.get(f"encoder.layers.{len(sizes) - 1}.bias")) is not None:
        sizes.append(len(bias))
    model = Autoencoder(sizes, torch.Generator())
    model.load_state_dict({name: torch.tensor(value) for name, value in state.items()}, strict=False)
    return model


def decoded_errors(model: Autoencoder, vectors: Vectors, latents: Vectors, codebooks: list[Vectors]) -> list[float]:
    """What is lost when the decoder sees the first level, the first two, ...: shares of the vectors' squared length.

    Unlike errors of latents, these compare techniques: residual k-means reports the same of its vectors.

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
