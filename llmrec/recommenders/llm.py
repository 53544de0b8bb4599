"""A language model as a recommender: model + item tokenizer + prompt + engine, in one folder."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from pydantic import Field
from safetensors import SafetensorError
from tqdm.auto import tqdm
from transformers import AutoModelForCausalLM, GenerationConfig, PreTrainedModel

import llmrec
from llmrec import artifact, assets
from llmrec.base_models import keep_soft_cap
from llmrec.component import Component
from llmrec.data.catalog import Catalog
from llmrec.engines.base import Normalize
from llmrec.engines.bias import ItemBias
from llmrec.engines.transformers import TransformersEngine
from llmrec.errors import ArtifactError, DataError
from llmrec.indexes.item_tokenizer import ItemTokenizer
from llmrec.recommenders.base import RecommenderSettings, load_recommender_settings, save_recommender_settings
from llmrec.recommenders.scoring import checked_candidates, checked_histories, checked_k, distinct_rows, left_out
from llmrec.tasks.next_item import NextItemTask
from llmrec.tasks.template import PromptTemplate
from llmrec.types import Candidates, PreparedCandidates, Ragged, Rows, ScoredItems


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
        model: a causal language model whose vocabulary holds the item tokens.
        task: prompts and codes (it knows catalog and item tokenizer).
        decoding: how to search.
    """

    kind: ClassVar[str] = "llm"

    def __init__(self, model: PreTrainedModel, task: NextItemTask, decoding: Decoding | None = None) -> None:
        self.model, self.task, self.decoding = model, task, decoding or Decoding()
        self.engine = TransformersEngine(model, task.items, task.shared_prompt(), self.decoding.cached_tokens)

    @property
    def catalog(self) -> Catalog:
        """The items that can be recommended."""
        return self.task.catalog

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
        shared = wanted.form if isinstance(wanted, PreparedCandidates) else None
        others = None if bias is None else ItemBias(np.asarray(bias, np.float32), bias_weight)
        rows = np.full((len(histories), checked_k(k)), -1, np.int32)
        scores = np.full(rows.shape, -np.inf, np.float32)
        exact = np.zeros(len(histories), bool)
        by_length = np.argsort(np.minimum(histories.lengths, self.task.max_history), kind="stable")
        size = self.decoding.batch_size
        with tqdm(total=len(by_length), desc="decode", unit="user", disable=not progress) as bar:
            for start in range(0, len(by_length), size):
                users = by_length[start : start + size]
                chosen = histories.take(users)
                found = self.engine.decode(
                    [self.task.prompt(history) for history in chosen],
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
                bar.update(len(users))
        return ScoredItems(rows, scores, exact)

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
            items: distinct item rows, `int32[n]`; the whole catalog when None, and with `normalize: children` the
                result is then a distribution: its exponentials sum to 1.

        Returns:
            `float32[B, n]` in nats.

        Raises:
            DataError: an item row is not in the catalog, or comes twice.
        """
        wanted = np.arange(len(self.catalog), dtype=np.int32) if items is None else np.asarray(items, np.int32)
        if len(distinct_rows(wanted, len(self.catalog))) != len(wanted):
            raise DataError("an item to score is named twice.", fix="Name each item once.")
        # At least k beams are used, and no level has more prefixes than there are items: nothing is cut.
        found = self.recommend(histories, len(wanted), exclude_seen=False, candidates=wanted, progress=progress)
        place = np.full(len(self.catalog), -1)
        place[wanted] = np.arange(len(wanted))
        scores = np.empty(found.scores.shape, np.float32)
        np.put_along_axis(scores, place[found.rows], found.scores, axis=1)
        return scores

    def add_items(self, items: Catalog) -> Self:
        """The same model with more items, which it can recommend at once: no weight and no code changes.

        Args:
            items: the new items, with the columns that the index and the prompt read.

        Raises:
            DataError: an id is in the catalog already.
            RecipeError: the kind of index cannot place new items, or no code is free (see `ItemIndex.add`).
        """
        catalog = self.catalog.append(items)
        return type(self)(self.model, self.task.over(self.task.items.index.add(catalog), catalog), self.decoding)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the model folder (see `llmrec.artifact`), merged weights, no pickle."""
        tokenizer = self.task.items.tokenizer

        def write(target: Path) -> None:
            # The base model's sampling defaults (top_k, temperature, penalties) must not reach anybody's beams.
            self.model.generation_config = GenerationConfig(
                eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
            )
            self.model.save_pretrained(target)
            tokenizer.save_pretrained(target)
            self.task.items.index.save(target / artifact.ITEM_INDEX)
            pq.write_table(self.catalog.table, target / artifact.CATALOG)
            (target / artifact.PROMPT).write_bytes(self.task.template.source.encode())  # line ends as they were hashed
            (target / artifact.HANDLER).write_text(assets.path("model_cards", "handler.py").read_text())
            settings = {
                **self.decoding.settings(),
                "max_history": self.task.max_history,
                "prompt_sha256": self.task.template.digest,
                "codes_sha256": self.task.items.index.digest,
            }
            save_recommender_settings(target, RecommenderSettings(self.kind, settings, llmrec.__version__))

        artifact.write_folder(Path(folder), write, last=artifact.RECOMMENDER)

    @classmethod
    def from_pretrained(cls, folder: str | Path, dtype: str = "auto", device: str | None = None) -> Self:
        """Read a model folder.

        Args:
            folder: what `save_pretrained` wrote. dtype: torch's name, or `auto` for the type that was saved.
            device: a torch device; CUDA when there is one, otherwise the CPU.

        Raises:
            ArtifactError: a file is missing or damaged, or the prompt or the codes are not those that were trained.
        """
        folder, saved = Path(folder), load_recommender_settings(folder)
        if saved.kind != cls.kind:
            raise ArtifactError(f"{folder} holds a '{saved.kind}' recommender, not a language model.")
        expected = dict(saved.settings)
        prompt_sha256, codes_sha256 = expected.pop("prompt_sha256", None), expected.pop("codes_sha256", None)
        max_history = int(expected.pop("max_history", 0))
        decoding = Decoding.parse(expected, where=str(folder / artifact.RECOMMENDER))
        try:
            wording = (folder / artifact.PROMPT).read_bytes()
            catalog = Catalog(pq.read_table(folder / artifact.CATALOG))
            items = ItemTokenizer.load(folder)
            model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, use_safetensors=True)
        except (OSError, ValueError, SafetensorError) as error:
            raise ArtifactError(
                f"{folder} is not a complete model folder ({error}). Save or download it again."
            ) from error
        if hashlib.sha256(wording).hexdigest() != prompt_sha256:
            raise ArtifactError(
                f"{folder / artifact.PROMPT} is not the wording that this model was trained with. Restore it: another "
                "prompt gives silently worse recommendations."
            )
        if items.index.digest != codes_sha256:
            raise ArtifactError(f"{folder / artifact.ITEM_INDEX} is not the index that this model was trained with.")
        if not items.index.is_for(catalog.items):
            raise ArtifactError(
                f"{folder / artifact.CATALOG} lists other items, or in another order, than the codes were made for."
            )
        keep_soft_cap(model)
        model.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        task = NextItemTask(PromptTemplate(wording.decode()), catalog, items, max_history)
        return cls(model.eval(), task, decoding)
