"""A language model of a tiny world with a random item head, whose scores differ."""

from __future__ import annotations

import torch
from circle import make_task
from torch.nn import functional
from worlds import TinyWorld

from llmrec.recommenders.item_head import Asking, ItemHeadRecommender, with_slots
from llmrec.recommenders.item_projection import ItemProjection


def make_projected(world: TinyWorld, reads: bool = False, batch_size: int = 2) -> ItemHeadRecommender:
    """It reads the codes of a history, or, where it `reads`, one vector an item."""
    torch.manual_seed(0)
    text = functional.normalize(torch.randn(len(world.catalog), 6))
    head = ItemProjection(text, world.model.config.hidden_size, 8, reads)
    for weight in (head.table, head.of_text):
        weight.data *= 30
    head.match_scale(world.model.get_input_embeddings().weight)
    task = make_task(world.catalog, world.items)
    return ItemHeadRecommender(world.model, with_slots(task) if reads else task, head, Asking(batch_size=batch_size))
