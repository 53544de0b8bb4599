"""What trainers are tried on: users who go round a circle of items, a task, a base model, settings for seconds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from worlds import make_tiny_model, make_tiny_tokenizer

from llmrec.data.catalog import Catalog
from llmrec.data.interactions import Interactions
from llmrec.data.split import Split, leave_one_out
from llmrec.indexes.item_tokenizer import ItemTokenizer
from llmrec.tasks.next_item import NextItemTask
from llmrec.tasks.template import PromptTemplate

TEMPLATE = "Items:{% for item in history %}{{ item.code }}{% endfor %}"
QUICK = {
    "use_cpu": True,
    "bf16": False,
    "gradient_checkpointing": False,
    "disable_tqdm": True,
    "per_device_train_batch_size": 8,
    "learning_rate": 6e-3,
    "num_train_epochs": 6,
    "logging_steps": 1,
}


def circle(catalog: Catalog, users: int = 40, length: int = 8) -> Split:
    """Item `r` is always followed by item `r + 1`; where a user begins is random."""
    count = len(catalog)
    starts = np.random.default_rng(0).integers(0, count, users)
    rows = (starts[:, None] + np.arange(length)) % count
    user_ids = pa.array([f"u{user}" for user in range(users) for _ in range(length)])
    item_ids = catalog.items.ids.take(pa.array(rows.ravel()))
    times = np.tile(np.arange(length), users)
    return leave_one_out(Interactions.from_columns(user_ids, item_ids, times, catalog.items))


def make_task(catalog: Catalog, items: ItemTokenizer) -> NextItemTask:
    return NextItemTask(PromptTemplate(TEMPLATE), catalog, items, max_history=10)


def base_model(**changes: object) -> Any:
    return make_tiny_model(len(make_tiny_tokenizer()), **{"initializer_range": 0.05, **changes})
