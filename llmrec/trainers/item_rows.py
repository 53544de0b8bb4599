"""New vocabulary rows for item tokens: how they begin, and how they train without touching the words' rows.

Words outnumber item tokens a hundredfold. An ordinary trainable embedding would carry a dense gradient and two
optimizer states for every word; `ItemRowsEmbedding` trains the item rows alone. LoRA runs do the same through PEFT's
`trainable_token_indices`.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from llmrec.data.catalog import Catalog
from llmrec.indexes.item_tokenizer import ItemTokenizer

Init = Literal["text", "default"]
NOISE = 0.1  # relative to a row's length: codes without items, or with the same words, must not begin equal
# Relative to a word's row. With a tied head, rows of full length make the first logits large and confident. On 64 x 128
# codes, where guessing costs 4.5 nats, training begins at 22 nats with length 1, at 7.9 with 0.3 and at 4.9 with 0.1.
LENGTH = 0.3


def add_item_rows(model: PreTrainedModel, items: ItemTokenizer, catalog: Catalog, init: Init, seed: int) -> None:
    """Grow the vocabulary to the bound tokenizer and give the new rows their first values, in place.

    Args:
        model: a base model. items: the bound tokenizer. catalog: the titles.
        init: `text`: the mean embedding of the titles under a code, what is left of it on each deeper level, scaled to
            `LENGTH` of a word's row; `default`: Hugging Face's own (a draw around the mean of all rows).
        seed: of the random part.
    """
    torch.manual_seed(seed)
    rows_needed = max(len(items.tokenizer), model.get_input_embeddings().weight.shape[0])
    model.resize_token_embeddings(rows_needed, mean_resizing=True)
    if init == "default":
        return
    embeddings = model.get_input_embeddings().weight.data  # (V, D)
    rows = _rows_from_text(embeddings, items, catalog, seed)
    ids = torch.from_numpy(items.token_ids)
    embeddings[ids] = rows.to(embeddings.dtype)
    if (head := model.get_output_embeddings().weight.data).data_ptr() != embeddings.data_ptr():
        head[ids] = (rows / rows.norm(dim=1, keepdim=True) * LENGTH * _usual_norm(head, items)).to(head.dtype)


def _usual_norm(weight: Tensor, items: ItemTokenizer) -> Tensor:
    return weight[: items.level_starts[0]].float().norm(dim=1).median()


def _rows_from_text(embeddings: Tensor, items: ItemTokenizer, catalog: Catalog, seed: int) -> Tensor:
    """`float32[item tokens, D]`: residual means of title embeddings, level by level."""
    words = [items.encode_text(text) or (0,) for text in catalog.texts()]
    flat = torch.tensor([token for title in words for token in title])
    owner = torch.repeat_interleave(torch.arange(len(words)), torch.tensor([len(title) for title in words]))
    rarity = torch.log(len(words) / (1.0 + torch.bincount(flat, minlength=len(embeddings)).float())).clamp(min=0.1)
    weight = rarity[flat]
    vectors = embeddings.float()[flat] * weight[:, None]
    titles = torch.zeros(len(words), embeddings.shape[1]).index_add_(0, owner, vectors)
    titles /= torch.zeros(len(words)).index_add_(0, owner, weight)[:, None]
    residual = titles - titles.mean(0)
    generator = torch.Generator().manual_seed(seed)
    levels = []
    for level, size in enumerate(items.index.level_sizes):
        codes = torch.from_numpy(items.index.codes[:, level].astype(np.int64))
        sums = torch.zeros(size, residual.shape[1]).index_add_(0, codes, residual)
        means = sums / torch.bincount(codes, minlength=size).clamp(min=1)[:, None]
        residual = residual - means[codes]
        noise = nn.functional.normalize(torch.randn(means.shape, generator=generator), dim=1)
        levels.append(nn.functional.normalize(nn.functional.normalize(means, dim=1) + NOISE * noise, dim=1))
    return torch.cat(levels) * LENGTH * _usual_norm(embeddings, items)


class ItemRowsEmbedding(nn.Embedding):
    """An embedding whose item rows train and whose other rows are frozen.

    Args:
        base: the embedding to take over (its weight stays shared with a tied head).
        first: id of the first item token; all item tokens follow it. count: how many.
    """

    def __init__(self, base: nn.Embedding, first: int, count: int) -> None:
        super().__init__(base.num_embeddings, base.embedding_dim, base.padding_idx, _weight=base.weight)
        self.weight = base.weight  # the same parameter, so that tying survives
        self.weight.requires_grad_(False)
        self.first = first
        self.replaced = (base,)  # in a tuple, so that it is no submodule
        self.scale = getattr(base, "embed_scale", None)  # Gemma multiplies its embeddings
        self.item_rows = nn.Parameter(base.weight.data[first : first + count].clone())

    def forward(self, input: Tensor) -> Tensor:
        """`(..., D)` for ids `(...)`."""
        of_items = input - self.first
        is_item = (of_items >= 0) & (of_items < len(self.item_rows))
        rows = nn.functional.embedding(of_items.clamp(0, len(self.item_rows) - 1), self.item_rows)
        found = torch.where(is_item[..., None], rows, nn.functional.embedding(input, self.weight))
        return found if self.scale is None else found * torch.as_tensor(self.scale).to(found.dtype)

    @torch.no_grad()
    def write_back(self) -> None:
        """Copy the trained rows into the full weight (and so into a tied head)."""
        self.weight[self.first : self.first + len(self.item_rows)] = self.item_rows


def train_item_rows_only(model: PreTrainedModel, items: ItemTokenizer) -> None:
    """Replace the input embedding by an `ItemRowsEmbedding`, in place."""
    model.set_input_embeddings(
        ItemRowsEmbedding(model.get_input_embeddings(), items.level_starts[0], len(items.token_ids))
    )


def restore_embedding(model: PreTrainedModel) -> None:
    """Put the trained rows into an ordinary embedding again, so that the model saves as any other."""
    embedding = model.get_input_embeddings()
    if isinstance(embedding, ItemRowsEmbedding):
        embedding.write_back()
        model.set_input_embeddings(embedding.replaced[0])
        model.requires_grad_(True)


def item_head_rows(model: PreTrainedModel, items: ItemTokenizer) -> Tensor:
    """The head's rows of all item tokens, `(item tokens, D)`, in the tensor that receives the gradient."""
    first, count = items.level_starts[0], len(items.token_ids)
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    if (adapter := getattr(head, "token_adapter", None)) is not None:  # PEFT's trainable_token_indices
        return adapter.trainable_tokens_delta[adapter.active_adapters[0]]
    if isinstance(embedding, ItemRowsEmbedding) and embedding.weight is head.weight:
        return embedding.item_rows
    return head.weight[first : first + count]


def model_for_decoding(bare: PreTrainedModel) -> PreTrainedModel:
    """The bare model as the engine needs it in the middle of training, with the trained item rows in its head.

    LoRA weights stay unmerged: merging and unmerging would leave rounding errors in the base weights, and a run that
    is resumed would no longer equal one that was not.
    """
    if isinstance(embedding := bare.get_input_embeddings(), ItemRowsEmbedding):
        embedding.write_back()
    return bare
