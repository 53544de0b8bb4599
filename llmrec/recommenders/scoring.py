"""The base of recommenders that score every item at once.

A technique says how it learns (`learn`: train rows -> named arrays) and how it scores (`score`: histories -> one number
an item). Masking, ranking, chunking, checking and saving are the same for all and live here.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import PrivateAttr
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

import llmrec
from llmrec import artifact
from llmrec.component import Component
from llmrec.data.catalog import Catalog
from llmrec.data.interactions import Interactions
from llmrec.errors import ArtifactError, DataError, LlmrecError
from llmrec.hub import Pushed, local_folder, push_saved
from llmrec.recommenders.base import RecommenderSettings, load_recommender_settings, save_recommender_settings
from llmrec.recommenders.checks import checked_candidates, checked_histories, checked_k, distinct_rows, left_out
from llmrec.types import Candidates, PreparedCandidates, Ragged, Rows, ScoredItems

SCORES_AT_ONCE = 1 << 23
"""Most scores in memory at once (32 MiB): with ten million items, users are scored one by one."""

WEIGHTS = "model.safetensors"


class ScoringRecommender(Component):
    """A `Recommender` that can score the whole catalog. Subclasses set `kind` and write `learn` and `score`."""

    kind: ClassVar[str]
    """The name in the registry."""

    _catalog: Catalog | None = PrivateAttr(default=None)
    _arrays: dict[str, NDArray[Any]] = PrivateAttr(default_factory=dict)

    @abstractmethod
    def learn(self, train: Interactions) -> dict[str, NDArray[Any]]:
        """Everything that `score` needs, as named arrays; they are what is saved."""

    @abstractmethod
    def score(self, histories: Ragged) -> NDArray[np.float32]:
        """`float32[B, N]`, a new array, higher is better; `-inf` is "never", NaN is not allowed.

        The score of one history must not depend on the others.
        """

    @property
    def log_probabilities(self) -> bool:
        """See `Recommender.log_probabilities`; a technique whose scores are some says so."""
        return False

    @property
    def catalog(self) -> Catalog:
        """The items that can be recommended.

        Raises:
            LlmrecError: nothing was fitted or loaded.
        """
        if self._catalog is None:
            raise LlmrecError(
                f"This {type(self).__name__} has learnt nothing yet. Call fit(train, catalog), or load a saved one "
                "with from_pretrained(folder)."
            )
        return self._catalog

    def fit(self, train: Interactions, catalog: Catalog) -> Self:
        """Learn from train rows only; gives itself back.

        Raises:
            DataError: the interactions were not made with this catalog.
        """
        if len(train.items) != len(catalog):
            raise DataError(
                f"the interactions know {len(train.items)} items, the catalog has {len(catalog)}.",
                fix="Build the interactions with catalog.items.",
            )
        self._arrays, self._catalog = self.learn(train), catalog
        return self

    def recommend(
        self,
        histories: Ragged | Sequence[Rows],
        k: int = 10,
        exclude_seen: bool = True,
        candidates: Candidates | None = None,
        exclude: Ragged | None = None,
    ) -> ScoredItems:
        """The best k items of each history; see `Recommender`. Of equal scores the lower item row comes first.

        Raises:
            DataError: k is below 1, or an item row is not in the catalog.
        """
        size = len(self.catalog)
        histories = checked_histories(histories, size)
        wanted = checked_candidates(self, candidates, len(histories))
        closed = left_out(histories, exclude_seen, exclude, size)
        columns = wanted.rows if isinstance(wanted, PreparedCandidates) else None
        rows = np.full((len(histories), checked_k(k)), -1, np.int32)
        scores = np.full(rows.shape, -np.inf, np.float32)
        step = max(1, SCORES_AT_ONCE // max(size, 1))
        for start in range(0, len(histories), step):
            part = histories.slice(start, start + step)
            chunk = self.score(part)  # (b, N)
            if closed is not None:
                chunk[_pairs(closed.slice(start, start + step))] = -np.inf
            if isinstance(wanted, Ragged):
                others = np.ones(chunk.shape, bool)
                others[_pairs(wanted.slice(start, start + step))] = False
                chunk[others] = -np.inf
            best, values = top_k(chunk if columns is None else chunk[:, columns], k)
            found = slice(start, start + step), slice(0, best.shape[1])
            rows[found] = np.where(np.isneginf(values), -1, best if columns is None else columns[best])
            scores[found] = values
        return ScoredItems(rows, scores)

    def prepare_candidates(self, candidates: Rows) -> PreparedCandidates:
        """See `Recommender.prepare_candidates`; nothing but the check is worth keeping here."""
        return PreparedCandidates(distinct_rows(candidates, len(self.catalog)))

    def save_pretrained(self, folder: str | Path) -> None:
        """Write `model.safetensors`, `catalog.parquet` and, last, `recommender.json`; other files there stay."""
        catalog = self.catalog

        def write(target: Path) -> None:
            arrays = {name: np.ascontiguousarray(array) for name, array in self._arrays.items()}
            save_file(arrays, target / WEIGHTS)
            pq.write_table(catalog.table, target / artifact.CATALOG)
            save_recommender_settings(target, RecommenderSettings(self.kind, self.settings(), llmrec.__version__))

        artifact.write_folder(Path(folder), write, last=artifact.RECOMMENDER)

    def push_to_hub(self, repository: str, **how: Any) -> Pushed:
        """Save into a folder and upload it; see `llmrec.hub.push_folder`."""
        return push_saved(self.save_pretrained, repository, **how)

    @classmethod
    def from_pretrained(cls, folder: str | Path, revision: str | None = None, token: str | bool | None = None) -> Self:
        """Read what `save_pretrained` wrote.

        Args:
            folder: on the disk, or `user/name` on the Hub. revision, token: see `llmrec.hub.local_folder`.

        Raises:
            ArtifactError: a file is missing or damaged, or the folder holds another kind of recommender.
        """
        folder = local_folder(folder, revision, token)
        saved = load_recommender_settings(folder)
        if saved.kind != cls.kind:
            raise ArtifactError(
                f"{folder} holds a '{saved.kind}' recommender, {cls.__name__} reads '{cls.kind}'. "
                "Load it with the class that saved it."
            )
        recommender = cls.parse(saved.settings, where=str(folder / artifact.RECOMMENDER))
        try:
            recommender._arrays = load_file(folder / WEIGHTS)
            recommender._catalog = Catalog(pq.read_table(folder / artifact.CATALOG))
            shape = recommender.score(Ragged.from_lists([[]])).shape
        except (OSError, KeyError, pa.ArrowException, SafetensorError, DataError) as error:
            raise ArtifactError(
                f"{folder} is not a readable recommender ({error}). Save or download it again."
            ) from error
        if shape != (1, len(recommender.catalog)):
            raise ArtifactError(
                f"{folder / WEIGHTS} scores {shape[1]} items, the catalog beside it has {len(recommender.catalog)}. "
                "The files belong to different models: save or download them again."
            )
        return recommender


def top_k(scores: NDArray[np.float32], k: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The columns of the `min(k, N)` best scores of each row, best first; of equal scores the lower column first.

    Args:
        scores: `float32[B, N]`, without NaN.
        k: at least 1.

    Returns:
        Columns and scores, both `[B, min(k, N)]`.
    """
    users, size = scores.shape
    best = np.empty((users, min(k, size)), np.int32)
    if best.size:
        k = best.shape[1]
        # At least k scores reach the k-th best of some blocks' maxima, so only those that reach it need sorting.
        blocks = np.arange(0, size, max(1, size // (32 * k)))
        maxima = np.maximum.reduceat(scores, blocks, axis=1)  # (B, at least k)
        bounds = np.partition(maxima, len(blocks) - k, axis=1)[:, len(blocks) - k]  # (B,)
        for user in range(users):
            able = np.flatnonzero(scores[user] >= bounds[user])
            best[user] = able[np.argsort(-scores[user, able], kind="stable")[:k]]
    return best, np.take_along_axis(scores, best, axis=1)


def _pairs(lists: Ragged) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Of every value the number of its list, and the value: places in a table with a row for each list."""
    return np.repeat(np.arange(len(lists)), lists.lengths), lists.values
