"""The teacher of a distillation: frozen, asked for its states at the trained tokens, once where they fit on the disk.

A teacher that says the same in every epoch need not be run in every epoch. Its states go into one file that is mapped
into memory, named by a hash of its weights and of what it was asked, so other students of the same teacher find it.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from numpy.lib.format import open_memmap
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader
from tqdm.auto import tqdm
from transformers import PreTrainedModel

from llmrec import artifact
from llmrec.engines.head import LevelHead, finish_logits
from llmrec.errors import RecipeError
from llmrec.indexes.item_tokenizer import ItemTokenizer
from llmrec.trainers.batches import TokenBatches
from llmrec.trainers.samples import IGNORED, PadRight

logger = logging.getLogger(__name__)

SHARE_OF_DISK = 0.5
"""Of the free space that states may take before the teacher runs in every epoch instead."""


class Teacher:
    """A trained model that answers and never changes.

    Args:
        model: its weights. items: its item tokens. blocks: after which of its layers states are wanted, from 1,
            ascending; the last is the last layer, whose state is the one before the head.
    """

    def __init__(self, model: PreTrainedModel, items: ItemTokenizer, blocks: Sequence[int]) -> None:
        self.model, self.items, self.blocks = model.eval().requires_grad_(False), items, tuple(blocks)
        head = LevelHead(model)
        rows = (head.rows(items.rows_of(book)) for book in range(len(items.codebooks)))
        # Copies, which stay on the device when the model leaves it.
        self.rows = [(weight.clone(), None if bias is None else bias.clone()) for weight, bias in rows]

    @property
    def width(self) -> int:
        """`D` of its states."""
        return int(self.model.get_input_embeddings().embedding_dim)

    @torch.no_grad()
    def states(self, ids: Tensor, labels: Tensor) -> Tensor:
        """What it holds at each token that predicts a trained one.

        Args:
            ids: `int64[B, T]`, padded on the right. labels: the same, `IGNORED` where nothing is trained.

        Returns:
            `(n, blocks, D)` of the `n` trained tokens, row by row.
        """
        return block_states(self.model, {"input_ids": ids}, labels[:, 1:] != IGNORED, self.blocks)[0]

    def logits(self, states: Tensor, book: int) -> Tensor:
        """`float32[n, V]` over a codebook, of last states `(n, D)`."""
        weight, bias = self.rows[book]
        return finish_logits(self.model, functional.linear(states.to(weight.dtype), weight, bias).float())

    def kept_states(self, rows: Dataset, folder: Path, budget: int, progress: bool) -> NDArray[np.float16] | None:
        """The states of all rows, from a file that is made now if it is not there.

        Args:
            rows: of `distillation_dataset`, in the teacher's tokens. folder: of such files. budget: tokens of a batch.
            progress: show a bar.

        Returns:
            `float16[n, blocks, D]`, mapped from the disk; None where they would take too much of it.

        Raises:
            RecipeError: a state is too large for float16.
        """
        trained = int(rows.with_format("numpy")[-1]["first"]) + _trained(rows[-1]["labels"])
        shape = (trained, len(self.blocks), self.width)
        path = folder / f"teacher-{self._digest(rows)}.npy"
        if path.is_file():
            return np.load(path, mmap_mode="r")
        folder.mkdir(parents=True, exist_ok=True)
        wanted, free = 2 * int(np.prod(shape)), shutil.disk_usage(folder).free
        if wanted > SHARE_OF_DISK * free:
            logger.warning(
                "the teacher's states would take %.1f GB of %.1f GB that are free: it runs in every epoch instead",
                *(wanted / 1e9, free / 1e9),
            )
            return None
        with artifact.appears_whole(path) as partial:
            kept = open_memmap(partial, mode="w+", dtype=np.float16, shape=shape)
            self._fill(kept, rows, budget, progress)
            kept.flush()
            del kept
        return np.load(path, mmap_mode="r")

    def _fill(self, kept: NDArray[np.float16], rows: Dataset, budget: int, progress: bool) -> None:
        pad, device = PadRight(0), self.model.device
        batches = TokenBatches(rows["length"], max(budget, max(rows["length"])), seed=0)
        loader = DataLoader(rows, batch_sampler=batches, collate_fn=lambda samples: (samples, pad(samples)))
        with tqdm(total=len(rows), desc="teacher", unit="row", disable=not progress, leave=False) as bar:
            for samples, batch in loader:
                found = self.states(batch["input_ids"].to(device), batch["labels"].to(device)).half()
                if not bool(torch.isfinite(found).all()):
                    raise RecipeError(
                        "a state of the teacher is larger than float16 can hold, so its states cannot be kept. Set "
                        "distill.keep_states: false."
                    )
                counts = [_trained(sample["labels"]) for sample in samples]
                for sample, part in zip(samples, found.cpu().split(counts), strict=True):
                    kept[sample["first"] : sample["first"] + len(part)] = part.numpy()
                bar.update(len(samples))

    def _digest(self, rows: Dataset) -> str:
        """A hash of the weights, the layers that are asked, and the rows."""
        found = hashlib.sha256(repr(self.blocks).encode())
        found.update(weights_digest(self.model))
        for column in ("input_ids", "labels"):
            for chunk in rows.data.column(column).chunks:
                found.update(np.ascontiguousarray(chunk.flatten().to_numpy(zero_copy_only=False)).data)
                found.update(np.ascontiguousarray(chunk.value_lengths().to_numpy(zero_copy_only=False)).data)
        return found.hexdigest()[:16]


def weights_digest(model: PreTrainedModel) -> bytes:
    """A hash of all weights and their names."""
    found = hashlib.sha256(str(model.dtype).encode())
    for name, weight in model.state_dict().items():
        found.update(name.encode())
        found.update(weight.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return found.digest()


def _trained(labels: Sequence[int]) -> int:
    return sum(label != IGNORED for label in labels)


def block_states(
    model: PreTrainedModel, inputs: dict[str, Tensor], predicts: Tensor, blocks: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """The states behind some layers, at the positions that predict.

    Args:
        model: a causal language model. inputs: of its decoder. predicts: `bool[B, T - 1]`, which of the first `T - 1`
            positions. blocks: numbers of layers from 1, the last of them the last layer.

    Returns:
        `(n, blocks, D)`, of which the last is behind the final norm, as the head takes it; and that of all positions,
        `(B, T, D)`.
    """
    decoder = model.get_decoder()
    if len(blocks) == 1:
        last = decoder(**inputs, use_cache=False).last_hidden_state
        return last[:, :-1][predicts][:, None], last
    hidden = decoder(**inputs, use_cache=False, output_hidden_states=True).hidden_states
    return torch.stack([hidden[block][:, :-1][predicts] for block in blocks], dim=1), hidden[-1]
