"""What every engine does around its model: check what is asked, mask and bias the trie, search, and widen the search.

An engine brings a `Stepper` for the users of a search (`llmrec.engines.beam`); all else is the same for every engine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from llmrec.engines.base import Stepper
from llmrec.engines.beam import Ranking, search
from llmrec.engines.bias import ItemBias
from llmrec.engines.mask import AllowedItems, NodeMask
from llmrec.errors import DecodingError
from llmrec.indexes.trie import Trie
from llmrec.types import Ragged, Rows, ScoredItems

WIDER = 4
"""How many times the beams a list gets that was not proven."""


def check_prompts(prompts: Sequence[Sequence[int]]) -> None:
    """Whether an engine can be asked these.

    Raises:
        DecodingError: a prompt is empty.
    """
    if any(len(prompt) == 0 for prompt in prompts):
        raise DecodingError("a prompt has no token. Give the template at least one word before the history.")


def check_lists(users: int, **lists: Ragged | Rows | AllowedItems | None) -> None:
    """Whether what is said of each user is said of each.

    Raises:
        DecodingError: there are more or fewer lists than prompts.
    """
    for name, given in lists.items():
        if isinstance(given, Ragged) and len(given) != users:
            raise DecodingError(f"{name} holds {len(given)} lists for {users} prompts. Give one list for each.")


def check_request(
    prompts: Sequence[Sequence[int]],
    k: int,
    beams: int,
    excluded: Ragged | None,
    candidates: Rows | Ragged | AllowedItems | None,
) -> None:
    """Whether `Engine.decode` can be asked this.

    Raises:
        DecodingError: a prompt is empty, `k` or `beams` is below 1, or there are not as many lists as prompts.
    """
    check_prompts(prompts)
    check_lists(len(prompts), excluded=excluded, candidates=candidates)
    if k < 1 or beams < 1:
        raise DecodingError(f"k={k} and beams={beams} must be at least 1.")


def top_k(
    trie: Trie,
    codes: NDArray[np.int32],
    stepper_of: Callable[[NDArray[np.int64]], Stepper],
    users: int,
    k: int,
    beams: int,
    ranking: Ranking,
    excluded: Ragged | None,
    candidates: Rows | Ragged | AllowedItems | None,
    bias: ItemBias | None,
    most_beams: int,
) -> ScoredItems:
    """The answer of `Engine.decode`, whose arguments these are.

    Args:
        codes: `int32[N, L]`, of all items. users: `B`.
        stepper_of: the model's side for some users of the batch; asked for all first, then each time for a part of
            those it was asked for before.
    """
    allowed = AllowedItems.of(trie, candidates) if isinstance(candidates, np.ndarray) else candidates

    def searched(some: NDArray[np.int64], width: int) -> ScoredItems:
        closed = None if excluded is None else excluded.take(some)
        mask = NodeMask.of(trie, codes, closed, allowed.take(some) if isinstance(allowed, Ragged) else allowed)
        worth = None if bias is None else bias.of_users(some).on(trie, len(some))
        return search(trie, stepper_of(some), len(some), k, width, ranking, mask, worth)

    found = searched(np.arange(users), beams)
    while beams < most_beams and not found.exact.all():
        beams = min(WIDER * beams, most_beams)
        some = np.flatnonzero(~found.exact)
        again = searched(some, beams)
        found.rows[some], found.scores[some], found.exact[some] = again.rows, again.scores, again.exact
    return found
