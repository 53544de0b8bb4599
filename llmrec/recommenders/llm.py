"""A language model as a recommender: model + item tokenizer + prompt + engine, in one folder."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from transformers import PreTrainedModel

from llmrec import artifact
from llmrec.component import Component
from llmrec.data.catalog import Catalog
from llmrec.data.text import tidy_requests
from llmrec.engines.base import Engine, Normalize
from llmrec.engines.bias import ItemBias
from llmrec.engines.level_scores import level_scores
from llmrec.engines.lists import decode_lists
from llmrec.engines.transformers import TransformersEngine
from llmrec.errors import ArtifactError, DecodingError
from llmrec.hub import Pushed, local_folder, push_saved
from llmrec.recommenders.checks import (
    checked_candidates,
    checked_histories,
    checked_items,
    checked_k,
    distinct_rows,
    left_out,
)
from llmrec.recommenders.llm_folder import KIND, read_task, read_weights, write_folder
from llmrec.recommenders.prompt_batches import Batch, history_batches, prompt_batches
from llmrec.tasks.next_item import NextItemTask
from llmrec.types import Candidates, PreparedCandidates, Ragged, Rows, ScoredItems, ScoredLists


class Decoding(Component):
    """How a language model is asked.

    Args:
        beams: prefixes kept at each level; at least k are used. normalize: what a score means, see `Normalize`.
        batch_size: users decoded at once.
        length_penalty: for codes of different lengths, such as titles: the log-probability is divided by the number of
            tokens to this power (as in `transformers`); 0, the default, is the plain log-probability.
        most_beams: a list that is not proven to be the true top k is searched again with four times the beams, and so
            on up to this many; 0, the default, answers after the first search.
        cached_tokens: prompt tokens whose keys and values are kept for users who come back with a longer history.
    """

    beams: int = Field(20, ge=1)
    normalize: Normalize = "codebook"
    batch_size: int = Field(64, ge=1)
    length_penalty: float = Field(0.0, ge=0)
    most_beams: int = Field(0, ge=0)
    cached_tokens: int = Field(0, ge=0)


class LLMRecommender:
    """Recommends by constrained decoding; the score of an item is `log p(item | history)` in nats.

    Args:
        model: a causal language model whose vocabulary holds the item tokens; None where it runs elsewhere.
        task: prompts and codes (it knows catalog and item tokenizer).
        decoding: how to search.
        engine: what asks a model that runs elsewhere, such as vLLM; one that is here has the embedded engine.

    Raises:
        DecodingError: there is neither a model nor an engine, or both, or the engine decodes other items.
    """

    kind: ClassVar[str] = KIND

    def __init__(
        self,
        model: PreTrainedModel | None,
        task: NextItemTask,
        decoding: Decoding | None = None,
        engine: Engine | None = None,
    ) -> None:
        if (model is None) == (engine is None):
            given = "neither a model nor an engine" if model is None else "both a model and an engine"
            raise DecodingError(f"there is {given}. Give the model, or None and an engine that runs it elsewhere.")
        self.model, self.task, self.decoding = model, task, decoding or Decoding()
        self.engine: Engine = engine or TransformersEngine(
            model, task.items, task.shared_prompt(), self.decoding.cached_tokens
        )
        theirs = self.engine.item_tokenizer.index
        if theirs is not task.items.index and theirs.digest != task.items.index.digest:
            raise DecodingError("the engine decodes the codes of another index. Make it with `task.items`.")

    @property
    def catalog(self) -> Catalog:
        """The items that can be recommended."""
        return self.task.catalog

    @property
    def log_probabilities(self) -> bool:
        """Unless a length penalty divides them."""
        return self.decoding.length_penalty == 0

    def recommend(
        self,
        histories: Ragged | Sequence[Rows],
        k: int = 10,
        exclude_seen: bool = True,
        candidates: Candidates | None = None,
        exclude: Ragged | None = None,
        progress: bool = False,
        bias: NDArray[np.float32] | None = None,
        bias_weight: float = 1.0,
    ) -> ScoredItems:
        """The best k items of each history; see `Recommender.recommend`.

        Args:
            progress: show a bar with users per second on stderr.
            bias: `float32[N]` or `float32[B, N]`, other scores of the items; see `ItemBias` for what a score is then.
            bias_weight: their weight; 0 leaves them out.
        """
        histories = checked_histories(histories, len(self.catalog))
        wanted = checked_candidates(self, candidates, len(histories))
        closed = left_out(histories, exclude_seen, exclude, len(self.catalog))
        others = None if bias is None else ItemBias(np.asarray(bias, np.float32), bias_weight)
        return self._decoded(self._batches(histories, "decode", progress), len(histories), k, closed, wanted, others)

    def search(
        self,
        texts: str | Sequence[str],
        k: int = 10,
        candidates: Candidates | None = None,
        exclude: Ragged | None = None,
        progress: bool = False,
    ) -> ScoredItems:
        """The k items that a request in words asks for; the score is `log p(item | request)` in nats.

        The same search over the same trie as `recommend`: every answer is an item of the catalog. The model must have
        learned it, see `llmrec.tasks.alignment`. After DSI (Tay et al. 2022, https://arxiv.org/abs/2202.06991) and
        LC-Rec (Zheng et al. 2023, https://arxiv.org/abs/2311.09049).

        Args:
            texts: `B` requests, or a single one; each is tidied to one line and cut behind 1,000 characters.
            candidates, exclude: as for `recommend`; see `llmrec.data.price` for a price that the request names.
            progress: show a bar on stderr.

        Raises:
            DataError: a request is empty, an item row is not in the catalog, or there are not as many lists as
                requests.
            RecipeError: the model has not learned to find items by words.
        """
        prompts = [self.task.query(text) for text in tidy_requests([texts] if isinstance(texts, str) else texts)]
        wanted = checked_candidates(self, candidates, len(prompts))
        closed = left_out(Ragged.from_lists([[]] * len(prompts)), False, exclude, len(self.catalog))
        lengths, size = [len(prompt) for prompt in prompts], self.decoding.batch_size
        batches = prompt_batches(lengths, prompts.__getitem__, size, "search", progress, unit="request")
        return self._decoded(batches, len(prompts), k, closed, wanted)

    def _decoded(
        self,
        batches: Iterable[Batch],
        count: int,
        k: int,
        closed: Ragged | None,
        wanted: Ragged | PreparedCandidates | None,
        others: ItemBias | None = None,
    ) -> ScoredItems:
        """What the engine says behind the prompts of `count` users."""
        shared = wanted.form if isinstance(wanted, PreparedCandidates) else None
        rows = np.full((count, checked_k(k)), -1, np.int32)
        scores = np.full(rows.shape, -np.inf, np.float32)
        exact = np.zeros(count, bool)
        for users, prompts in batches:
            found = self.engine.decode(
                prompts,
                k,
                max(self.decoding.beams, k),
                self.decoding.normalize,
                None if closed is None else closed.take(users),
                wanted.take(users) if isinstance(wanted, Ragged) else shared,
                self.decoding.length_penalty,
                None if others is None else others.of_users(users),
                self.decoding.most_beams,
            )
            rows[users], scores[users], exact[users] = found.rows, found.scores, found.exact
        return ScoredItems(rows, scores, exact)

    def recommend_lists(
        self,
        histories: Ragged | Sequence[Rows],
        length: int = 5,
        count: int = 1,
        exclude_seen: bool = True,
        candidates: Candidates | None = None,
        exclude: Ragged | None = None,
        progress: bool = False,
    ) -> ScoredLists:
        """The best lists of several items that come one after another; see `llmrec.engines.lists`.

        Unlike the `length` best items, each item of a list depends on those before it.

        Args:
            length: items of a list. count: lists wanted for each history. Of `Decoding`, `length_penalty` and
                `most_beams` are not used.
            exclude_seen, candidates, exclude: as for `recommend`. progress: a bar on stderr.

        Raises:
            DataError: an item row is not in the catalog, there are not as many lists as histories, or a number is
                below 1.
            DecodingError: the model cannot be decoded so far.
        """
        histories = checked_histories(histories, len(self.catalog))
        wanted = checked_candidates(self, candidates, len(histories))
        closed = left_out(histories, exclude_seen, exclude, len(self.catalog))
        shared = wanted.form if isinstance(wanted, PreparedCandidates) else None
        rows = np.full((len(histories), checked_k(count), checked_k(length)), -1, np.int32)
        scores = np.full(rows.shape[:2], -np.inf, np.float32)
        exact = np.zeros(len(histories), bool)
        for users, prompts in self._batches(histories, "decode lists", progress):
            found = decode_lists(
                self.engine,
                prompts,
                count,
                length,
                self.decoding.beams,
                self.decoding.normalize,
                None if closed is None else closed.take(users),
                wanted.take(users) if isinstance(wanted, Ragged) else shared,
            )
            rows[users], scores[users], exact[users] = found.rows, found.scores, found.exact
        return ScoredLists(rows, scores, exact)

    def prepare_candidates(self, candidates: Rows) -> PreparedCandidates:
        """See `Recommender.prepare_candidates`: items are counted below every node of the trie."""
        rows = distinct_rows(candidates, len(self.catalog))
        return PreparedCandidates(rows, self.engine.allow(rows))

    def score(
        self, histories: Ragged | Sequence[Rows], items: Rows | None = None, progress: bool = False
    ) -> NDArray[np.float32]:
        """`log p(item | history)` of given items, seen or not, without a search that could miss one.

        Every prefix of the items is fed once a history, so this is for hundreds or thousands of items, not millions.

        Args:
            items: item rows, `int32[n]` for all histories, or `int32[B, n]` with -1 for none; the whole catalog when
                None, and with `normalize: children` the result is then a distribution: its exponentials sum to 1.

        Returns:
            `float32[B, n]` in nats, NaN where there is no item.

        Raises:
            DataError: an item row is not in the catalog, or there are not as many lists as histories.
        """
        histories = checked_histories(histories, len(self.catalog))
        everything = np.arange(len(self.catalog), dtype=np.int32)
        wanted = checked_items(everything if items is None else items, len(histories), len(self.catalog))
        scores = np.empty(wanted.shape, np.float32)
        for users, prompts in self._batches(histories, "score", progress):
            scores[users] = np.nansum(level_scores(self.engine, prompts, wanted[users], self.decoding.normalize), -1)
        return np.where(wanted < 0, np.float32(np.nan), scores)

    def explain(self, histories: Ragged | Sequence[Rows], items: Rows) -> NDArray[np.float32]:
        """What each level of an item's code adds to `log p(item | history)`.

        Args:
            items: as for `score`; `ScoredItems.rows` are right.

        Returns:
            `float32[B, n, L]` in nats, NaN behind the end of a shorter code and where there is no item.

        Raises:
            DataError: an item row is not in the catalog, or there are not as many lists as histories.
        """
        histories = checked_histories(histories, len(self.catalog))
        wanted = checked_items(items, len(histories), len(self.catalog))
        found = np.empty((*wanted.shape, self.task.items.levels), np.float32)
        for users, prompts in self._batches(histories, "explain", progress=False):
            found[users] = level_scores(self.engine, prompts, wanted[users], self.decoding.normalize)
        return found

    def _batches(self, histories: Ragged, what: str, progress: bool) -> Iterator[Batch]:
        return history_batches(self.task, histories, self.decoding.batch_size, what, progress)

    def add_items(self, items: Catalog) -> Self:
        """The same model with more items, which it can recommend at once: no weight and no code changes.

        Args:
            items: the new items, with the columns that the index and the prompt read.

        Raises:
            ArtifactError: the model runs elsewhere.
            DataError: an id is in the catalog already.
            RecipeError: the kind of index cannot place new items, or no code is free (see `ItemIndex.add`).
        """
        model, catalog = self._model_for("add items to"), self.catalog.append(items)
        return type(self)(model, self.task.over(self.task.items.index.add(catalog), catalog), self.decoding)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the model folder (see `llmrec.artifact`), merged weights, no pickle.

        Raises:
            ArtifactError: the model runs elsewhere.
        """
        write_folder(Path(folder), self._model_for("save"), self.task, self.decoding.settings())

    def push_to_hub(self, repository: str, **how: Any) -> Pushed:
        """Save into a folder and upload it; see `llmrec.hub.push_folder`."""
        return push_saved(self.save_pretrained, repository, **how)

    @classmethod
    def from_pretrained(
        cls,
        folder: str | Path,
        revision: str | None = None,
        token: str | bool | None = None,
        dtype: str = "auto",
        device: str | None = None,
        engine: Callable[[NextItemTask], Engine] | None = None,
    ) -> Self:
        """Read a model folder.

        Args:
            folder: what `save_pretrained` wrote, on the disk or as `user/name` on the Hub.
            revision, token: of a repository, see `llmrec.hub.local_folder`.
            dtype: torch's name, or `auto` for the type that was saved.
            device: a torch device; CUDA when there is one, otherwise the CPU.
            engine: makes the engine where another than the embedded one is wanted, after the folder has been checked.
                No weights are read then; `dtype` and `device` do not matter.

        Raises:
            ArtifactError: a file is missing or damaged, or the prompt or the codes are not those that were trained.
        """
        folder = local_folder(folder, revision, token)
        task, settings = read_task(folder)
        decoding = Decoding.parse(settings, where=str(folder / artifact.RECOMMENDER))
        if engine is not None:
            return cls(None, task, decoding, engine(task))
        return cls(read_weights(folder, dtype, device), task, decoding)

    def _model_for(self, purpose: str) -> PreTrainedModel:
        if self.model is None:
            raise ArtifactError(
                f"there are no weights here to {purpose}: the model runs in a {type(self.engine).__name__}. Load its "
                "folder with LLMRecommender.from_pretrained(folder), without an engine."
            )
        return self.model
