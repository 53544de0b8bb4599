"""Vocabulary pruning: drop the rows of a model that neither its prompts nor its items use.

A recommender reads a few words of an instruction and some hundred item tokens, and keeps 50,000 rows for all other
words: 28 of 35 million parameters in two layers of SmolLM2-135M. Prompts become the same tokens under other numbers, so
the recommendations are the same, score for score; a text that no prompt held before is written in bytes.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm.auto import tqdm
from transformers import PretrainedConfig, PreTrainedModel

from llmrec.errors import ArtifactError
from llmrec.indexes.item_tokenizer import ItemTokenizer
from llmrec.indexes.pruned_tokenizer import prune_tokenizer
from llmrec.recommenders.llm import LLMRecommender
from llmrec.tasks.next_item import NextItemTask


def pruned(recommender: LLMRecommender) -> LLMRecommender:
    """The same recommender with a smaller vocabulary; its model is changed in place.

    Raises:
        ArtifactError: the model runs elsewhere, its tokenizer cannot be pruned, or its scores are shares of the whole
            vocabulary (`normalize: vocab`), which would grow.
    """
    if recommender.model is None:
        raise ArtifactError("there are no weights here to prune: load the folder without an engine.")
    if recommender.decoding.normalize == "vocab":
        raise ArtifactError(
            "decoding.normalize is 'vocab': a score counts every word of the vocabulary, so pruning would change it. "
            "Use a model that is decoded with 'codebook' or 'children'."
        )
    task, kept = pruned_task(recommender.task)
    keep_rows(recommender.model, kept)
    return LLMRecommender(recommender.model, task, recommender.decoding)


def pruned_task(task: NextItemTask) -> tuple[NextItemTask, NDArray[np.int64]]:
    """The task over a pruned tokenizer, and the old id of each token, `int64[V']` ascending.

    It takes no requests in words: these need the words that are dropped.
    """
    used: set[int] = set(task.items.token_ids.tolist())
    for prompt in _prompts(task):
        used.update(prompt)
    tokenizer, kept = prune_tokenizer(task.items.tokenizer, used)
    items = ItemTokenizer(tokenizer, task.items.index)
    return NextItemTask(task.template, task.catalog, items, task.max_history), kept


def _prompts(task: NextItemTask) -> Iterator[list[int]]:
    """Prompts of every length, and prompts that name every item."""
    count = len(task.catalog)
    for length in range(task.max_history):
        yield task.prompt(np.arange(length, dtype=np.int32) % count)
    for start in tqdm(range(0, count, task.max_history), desc="words in use", unit="prompt", leave=False):
        yield task.prompt(np.arange(start, start + task.max_history, dtype=np.int32) % count)


@torch.no_grad()
def keep_rows(model: PreTrainedModel, kept: NDArray[np.int64]) -> None:
    """Cut embedding and head to some rows, in place; ids in the configuration are renumbered.

    Args:
        kept: `int64[V']`, old token ids in the order of the new ones.
    """
    rows = torch.from_numpy(kept).to(model.device)
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    words, tied, bias = embedding.weight[rows], head.weight is embedding.weight, getattr(head, "bias", None)
    scores, offsets = head.weight[rows], None if bias is None else bias[rows]
    model.resize_token_embeddings(len(kept), mean_resizing=False)
    model.get_input_embeddings().weight.copy_(words)
    if not tied:
        model.get_output_embeddings().weight.copy_(scores)
    if offsets is not None:
        model.get_output_embeddings().bias.copy_(offsets)
    new = {int(old): place for place, old in enumerate(kept)}
    for config in {id(each): each for each in (model.config, model.config.get_text_config(decoder=True))}.values():
        _renumber(config, new)


def _renumber(config: PretrainedConfig, new: dict[int, int]) -> None:
    for name, value in list(vars(config).items()):
        if name.endswith("_token_id") and value is not None:
            several = value if isinstance(value, list) else [value]
            found = [new[token] for token in several if token in new]
            setattr(config, name, (found if isinstance(value, list) else found[0]) if found else None)
