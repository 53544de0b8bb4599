"""A language model that scores every item at once: one forward pass over the history, then a projection onto items.

Where `llmrec.recommenders.llm` writes an item's code token by token, here the last hidden state of the prompt is
compared with a vector of each item (Lite-LLM4Rec, Wang et al. 2024, https://arxiv.org/abs/2402.09543). The prompt is
the same. A list is always the true best, and costs little more than reading the prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from transformers import PreTrainedModel

from llmrec import artifact
from llmrec.component import Component
from llmrec.data.catalog import Catalog
from llmrec.engines.projection import best_items
from llmrec.engines.states import ItemInputs, StateEngine, TransformersStates
from llmrec.errors import ArtifactError, DecodingError
from llmrec.hub import Pushed, local_folder, push_saved
from llmrec.indexes.item_slots import ItemSlots
from llmrec.recommenders.checks import checked_candidates, checked_histories, checked_k, distinct_rows, left_out
from llmrec.recommenders.item_projection import ItemProjection
from llmrec.recommenders.llm_folder import read_projection, read_task, read_weights, write_folder, write_projection
from llmrec.recommenders.prompt_batches import history_batches
from llmrec.tasks.next_item import NextItemTask
from llmrec.types import Candidates, PreparedCandidates, Ragged, Rows, ScoredItems

MakeEngine = Callable[[ItemInputs | None], StateEngine]


class Asking(Component):
    """How the model is asked.

    Args:
        batch_size: users whose prompts are read at once.
    """

    batch_size: int = Field(64, ge=1)


class ItemHeadRecommender:
    """Recommends by projection; the score of an item is `log p(item | history)` over the whole catalog, in nats.

    Candidates and exclusions choose what is listed; they do not change a score.

    Args:
        model: a causal language model; None where it runs elsewhere.
        task: prompts; with `ItemSlots` in it the model reads each item as one vector.
        head: the projection.
        asking: see there.
        engine: makes what gives states where the model runs elsewhere, such as vLLM, from what the model reads of items
            (None where it reads their codes).

    Raises:
        DecodingError: there is neither a model nor an engine, or both.
        ArtifactError: the head knows another number of items than the catalog.
    """

    kind: ClassVar[str] = "item_head"

    def __init__(
        self,
        model: PreTrainedModel | None,
        task: NextItemTask,
        head: ItemProjection,
        asking: Asking | None = None,
        engine: MakeEngine | None = None,
    ) -> None:
        if (model is None) == (engine is None):
            given = "neither a model nor an engine" if model is None else "both a model and an engine"
            raise DecodingError(f"there is {given}. Give the model, or None and an engine that runs it elsewhere.")
        if len(head.text) != len(task.catalog):
            raise ArtifactError(f"the head scores {len(head.text)} items, the catalog has {len(task.catalog)}.")
        self.model, self.task, self.head, self.asking = model, task, head, asking or Asking()
        with torch.inference_mode():
            self.vectors: Tensor = head.vectors().float().contiguous()
            """`float32[N, D]`, made once."""
        self.engine: StateEngine = (engine or partial(TransformersStates, model))(self._inputs())

    @property
    def catalog(self) -> Catalog:
        """The items that can be recommended."""
        return self.task.catalog

    @property
    def log_probabilities(self) -> bool:
        """Always."""
        return True

    def recommend(
        self,
        histories: Ragged | Sequence[Rows],
        k: int = 10,
        exclude_seen: bool = True,
        candidates: Candidates | None = None,
        exclude: Ragged | None = None,
        progress: bool = False,
    ) -> ScoredItems:
        """The best k items of each history; see `Recommender`. Of equal scores the lower item row comes first.

        Args:
            progress: show a bar with users per second on stderr.
        """
        histories = checked_histories(histories, len(self.catalog))
        wanted = checked_candidates(self, candidates, len(histories))
        closed = left_out(histories, exclude_seen, exclude, len(self.catalog))
        shared = wanted.rows if isinstance(wanted, PreparedCandidates) else None
        rows = np.full((len(histories), checked_k(k)), -1, np.int32)
        scores = np.full(rows.shape, -np.inf, np.float32)
        for users, prompts in history_batches(self.task, histories, self.asking.batch_size, "recommend", progress):
            found = best_items(
                self.queries(prompts),
                self.vectors,
                k,
                None if closed is None else closed.take(users),
                wanted.take(users) if isinstance(wanted, Ragged) else shared,
            )
            rows[users], scores[users] = found.rows.cpu().numpy(), found.scores.cpu().numpy()
        return ScoredItems(rows, scores)

    @torch.inference_mode()
    def queries(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """`float32[B, D]`: what prompts ask of the items' vectors, on the device of these."""
        return self.head.queries(self.engine.states(prompts).to(self.vectors.device))

    def prepare_candidates(self, candidates: Rows) -> PreparedCandidates:
        """See `Recommender.prepare_candidates`; nothing but the check is worth keeping here."""
        return PreparedCandidates(distinct_rows(candidates, len(self.catalog)))

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the model folder (see `llmrec.artifact`), the projection in `item_head/`, no pickle.

        Raises:
            ArtifactError: the model runs elsewhere.
        """
        if self.model is None:
            raise ArtifactError(
                f"there are no weights here to save: the model runs in a {type(self.engine).__name__}. Load its folder "
                "with ItemHeadRecommender.from_pretrained(folder), without an engine."
            )
        write_folder(
            Path(folder), self.model, self.task, self.asking.settings(), self.kind, partial(write_projection, self.head)
        )

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
        engine: MakeEngine | None = None,
    ) -> Self:
        """Read a model folder.

        Args:
            folder: what `save_pretrained` wrote, on the disk or as `user/name` on the Hub.
            revision, token: of a repository, see `llmrec.hub.local_folder`.
            dtype: torch's name for the language model, or `auto` for the type
                that was saved; the projection is always float32.
            device: a torch device; CUDA when there is one, otherwise the CPU.
            engine: where another than the embedded one is wanted, see `ItemHeadRecommender`; no weights of the language
                model are read then.

        Raises:
            ArtifactError: a file is missing or damaged, or the prompt or the codes are not those that were trained.
        """
        folder = local_folder(folder, revision, token)
        task, settings = read_task(folder, cls.kind)
        asking = Asking.parse(settings, where=str(folder / artifact.RECOMMENDER))
        head = read_projection(folder)
        if head.read is not None:
            task = with_slots(task)
        head = head.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        if engine is not None:
            return cls(None, task, head, asking, engine)
        return cls(read_weights(folder, dtype, device), task, head, asking)

    def _inputs(self) -> ItemInputs | None:
        if not isinstance(self.task.items, ItemSlots):
            return None
        return ItemInputs(self.task.items.first, lambda rows: self.head.inputs(self.vectors[rows]))


def with_slots(task: NextItemTask) -> NextItemTask:
    """The same prompts with one place an item in place of its code."""
    slots = ItemSlots(task.items.tokenizer, task.items.index)
    return NextItemTask(task.template, task.catalog, slots, task.max_history)
