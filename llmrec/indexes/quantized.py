"""What all quantizers share: vectors in, unique codes out, and a place for items that come later.

Every technique here is a *residual quantizer* of transformed vectors: a level has a codebook, an item takes the nearest
entry, and the next level describes what is left. That covers product and scalar quantization too, whose codebooks are
zero outside of their own columns. So a technique says only how it transforms vectors and finds its codebooks.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from llmrec.component import Component
from llmrec.data.catalog import Catalog
from llmrec.data.interactions import Interactions
from llmrec.encoders.base import State
from llmrec.encoders.space import ItemSpace
from llmrec.indexes.base import ItemIndex
from llmrec.indexes.collisions import Strategy, make_unique
from llmrec.indexes.kmeans import distances_to, nearest, subtract
from llmrec.indexes.newcomers import stand_beside
from llmrec.indexes.provenance import provenance_of

Vectors = NDArray[np.float32]
Codes = NDArray[np.int32]


class Quantizer(NamedTuple):
    """What a technique learned from the item vectors.

    Args:
        latents: `float32[N, E]`, the vectors as they are quantized.
        codebooks: one `float32[K, E]` a level.
        state: what `latents` needs for other vectors.
        report: facts for the provenance, such as the losses of a training. JSON values.
        codes: `int32[N, L]`, the plain codes where the technique has its own rule for them; the nearest when None.
            Collisions are resolved from these codes. An item that comes later takes the nearest free code in any case.
    """

    latents: Vectors
    codebooks: list[Vectors]
    state: State = {}
    report: dict[str, Any] = {}
    codes: Codes | None = None


class SavedState(NamedTuple):
    """What an index keeps for items that come later, in the parts that `build` put together.

    Args:
        space: of the encoders. quantizer: what `latents` needs. codebooks: one `float32[K, E]` a level.
    """

    space: State
    quantizer: State
    codebooks: list[Vectors]

    @classmethod
    def of(cls, state: State) -> SavedState:
        """Take the state of an index apart."""
        parts: dict[str, State] = {"space": {}, "quantizer": {}, "codebook": {}}
        for name, value in state.items():
            part, _, key = name.partition(".")
            parts[part][key] = value
        books = parts["codebook"]
        return cls(parts["space"], parts["quantizer"], [books[str(level)] for level in range(len(books))])


class QuantizedIndex(Component):
    """Codes from item texts, and from behaviour where asked, by a quantizer.

    Args:
        encoder: the item encoder, `{"kind": "tfidf", ...}`.
        behaviour: settings of a second encoder (kind `behaviour` unless it names one) whose vectors are fused in.
        behaviour_weight: its share in the squared distances that are quantized; 0 is text alone, 1 behaviour alone.
        collisions: what keeps two items apart, see `llmrec.indexes.collisions`.
        seed: of everything random.
    """

    kind: ClassVar[str]

    encoder: dict[str, Any]
    behaviour: dict[str, Any] | None = None
    behaviour_weight: float = Field(default=0.5, ge=0, le=1)
    collisions: Strategy = "digit"
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _check_encoders(self) -> QuantizedIndex:
        self._space()  # a misspelt encoder is refused when the recipe is read, not after the data are
        return self

    @abstractmethod
    def fit_quantizer(self, vectors: Vectors) -> Quantizer:
        """Learn from `float32[N, D]`; the same for the same seed, on any number of cores."""

    @abstractmethod
    def latents(self, vectors: Vectors, state: State) -> Vectors:
        """`float32[n, E]`: other vectors `float32[n, D]` as they are quantized."""

    def build(self, catalog: Catalog, train: Interactions) -> ItemIndex:
        """Unique codes for every catalog row, from item texts and train rows only.

        Raises:
            DataError: an encoder cannot use the catalog.
            RecipeError: there are fewer codes than items, and `collisions` does not add a level.
        """
        encoded = self._space().fit(catalog, train)
        quantizer = self.fit_quantizer(encoded.vectors)
        plain, errors = residual_codes(quantizer.latents, quantizer.codebooks, quantizer.codes)
        codes, sizes = make_unique(plain, quantizer.latents, quantizer.codebooks, self.collisions)
        provenance = provenance_of(
            self.kind,
            self.settings(),
            catalog.items,
            codes,
            sizes,
            resolved_by=self.collisions,
            plain=plain,
            moved=int((codes[:, : plain.shape[1]] != plain).any(axis=1).sum()),
            reconstruction_error=errors,
            **quantizer.report,
        )
        codebooks = {f"codebook.{level}": codebook for level, codebook in enumerate(quantizer.codebooks)}
        state = {f"space.{name}": value for name, value in encoded.state.items()}
        state |= {f"quantizer.{name}": value for name, value in quantizer.state.items()} | codebooks
        return ItemIndex(codes, sizes, provenance, state)

    def add(self, index: ItemIndex, catalog: Catalog) -> ItemIndex:
        """New items stand beside the trained items whose texts are nearest.

        The texts of the trained items are encoded again, because an index does not keep their vectors.

        Raises:
            RecipeError: there are no free codes beside trained items.
        """
        saved = SavedState.of(index.state)
        latents = self.latents(self._space().encode(catalog, saved.space), saved.quantizer)
        trained, new = latents[: len(index.trained)], latents[len(index) :]
        codes, stand_ins = stand_beside(new, trained, saved.codebooks, index.codes, index.level_sizes)
        return index.grown(codes, catalog, stand_ins)

    def _space(self) -> ItemSpace:
        return ItemSpace.parse(self.encoder, self.behaviour, self.behaviour_weight)


def residual_codes(latents: Vectors, codebooks: list[Vectors], given: Codes | None = None) -> tuple[Codes, list[float]]:
    """The nearest entry on every level, each level encoding what the levels before left over.

    Args:
        latents: `float32[N, E]`. codebooks: one `float32[K, E]` a level.
        given: `int32[N, L]`, codes that are taken instead, and only measured.

    Returns:
        Codes `int32[N, L]`, not unique; and after every level the share of the latents' squared length that is not
        described yet.
    """
    total = float(np.einsum("nd,nd->", latents, latents, dtype=np.float64)) or 1.0
    residuals, columns, errors = latents.copy(), [], []
    for level, codebook in enumerate(codebooks):
        if given is None:
            labels, distances = nearest(residuals, codebook)
        else:
            labels, distances = given[:, level], distances_to(residuals, codebook, given[:, level])
        subtract(residuals, codebook, labels)
        columns.append(labels)
        errors.append(round(float(distances.sum(dtype=np.float64)) / total, 6))
    return np.column_stack(columns), errors
