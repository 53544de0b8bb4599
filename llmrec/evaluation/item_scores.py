"""What a model says of one given item after a history: a recommender's score, or the answer to a question in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from llmrec.data.judgements import Judgements
from llmrec.recommenders.base import Recommender
from llmrec.tasks.choice import ChoiceTask
from llmrec.types import Ragged, Rows

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def item_scores(recommender: Recommender, histories: Ragged, items: Rows) -> NDArray[np.float64]:
    """`float64[E]`: the score of one item after each history, seen or not; `-inf` for "never".

    It is the score that the item has in a list of `recommend`. A language model that writes codes is asked for the item
    itself, without a search that could miss it.

    Args:
        items: `int32[E]`.
    """
    from llmrec.recommenders.llm import LLMRecommender

    items = np.asarray(items, np.int32)
    if isinstance(recommender, LLMRecommender):
        return recommender.score(histories, items[:, None])[:, 0].astype(np.float64)
    only = Ragged(items, np.arange(len(items) + 1))
    return recommender.recommend(histories, 1, False, only).scores[:, 0].astype(np.float64)


class Answers(NamedTuple):
    """What a language model answers.

    Args:
        probabilities: `float64[E, A]`, of each answer; rows sum to 1.
        mass: `float64[E]`, the probability that the model says any of the answers at all.
    """

    probabilities: NDArray[np.float64]
    mass: NDArray[np.float64]


def ask(
    model: PreTrainedModel, task: ChoiceTask, judgements: Judgements, batch_size: int = 16, progress: bool = True
) -> Answers:
    """Put every question to a causal language model, pretrained or tuned, in words.

    Args:
        progress: a bar on stderr.

    Raises:
        RecipeError: the prompt cannot be rendered. DecodingError: it is longer than the model can see.
    """
    from llmrec.engines.choices import answer

    values = judgements.history_values
    probabilities, mass = np.empty((len(judgements), len(task.answers))), np.empty(len(judgements))
    by_length = np.argsort(np.minimum(judgements.histories.lengths, task.max_history), kind="stable")
    starts = judgements.histories.offsets
    with tqdm(total=len(judgements), desc="ask", unit="question", disable=not progress) as bar:
        for start in range(0, len(judgements), batch_size):
            batch = by_length[start : start + batch_size]
            prompts = [
                task.prompt(
                    judgements.histories[n],
                    int(judgements.items[n]),
                    None if values is None else values[starts[n] : starts[n + 1]],
                )
                for n in batch.tolist()
            ]
            found = answer(model, prompts, task.answer_ids)
            probabilities[batch] = found.log_p.double().exp().cpu().numpy()
            mass[batch] = found.mass.cpu().numpy()
            bar.update(len(batch))
    return Answers(probabilities, mass)
