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
from llmrec.errors import RecipeError
from llmrec.indexes.item_tokenizer import ItemTokenizer

Init = Literal["text", "default", "keep"]
NOISE = 0.1  # relative to a row's length: codes without items, or with the same words, must not begin equal
# Relative to a word's row. With a tied head, rows of full length make the first logits large and confident. On 64 x 128
# codes, where guessing costs 4.5 nats, training begins at 22 nats with length 1, at 7.9 with 0.3 and at 4.9 with 0.1.
LENGTH = 0.3


def add_item_rows(model: PreTrainedModel, items: ItemTokenizer, catalog: Catalog, init: Init, seed: int) -> None:
    """Grow the vocabulary to the bound tokenizer and give the new rows their first values, in place.

    Args:
        model: a base model. items: the bound tokenizer. catalog: the titles.
        init: `text`: the mean embedding of the titles under a code, what is left of it on each deeper level, scaled to
            `LENGTH` of a word's row; `default`: Hugging Face's own (a draw around the mean of all rows). Titles are
            words, which have their rows already; the mark of their end begins by Hugging Face's rule. `keep`: as they
            are, of a model that was trained with these item tokens before.
        seed: of the random part.

    Raises:
        RecipeError: rows are to be kept that are not there.
    """
    torch.manual_seed(seed)
    rows_there = model.get_input_embeddings().weight.shape[0]
    if init == "keep":
        if rows_there < len(items.tokenizer):
            raise RecipeError(
                f"train.init is 'keep', and the model has {rows_there} rows for {len(items.tokenizer)} tokens: it was "
                "not trained with these item tokens before. Set init: text."
            )
        return
    rows_needed = max(len(items.tokenizer), rows_there)
    model.resize_token_embeddings(rows_needed, mean_resizing=True)
    if init == "default" or items.is_text:
        return
    embeddings = model.get_input_embeddings().weight.data  # (V, D)
    rows = _rows_from_text(embeddings, items, catalog, seed)
    ids = torch.from_numpy(items.token_ids)
    embeddings[ids] = rows.to(embeddings.dtype)
    if (head := model.get_output_embeddings().weight.data).data_ptr() != embeddings.data_ptr():
        head[ids] = (rows / rows.norm(dim=1, keepdim=True) * LENGTH * _usual_norm(head, items)).to(head.dtype)


def _usual_norm(weight: Tensor, items: ItemTokenizer) -> Tensor:
    return weight[: items.new_token_ids.min()].float().norm(dim=1).median()


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
        column = torch.from_numpy(items.index.codes[:, level].astype(np.int64))
        here = torch.nonzero(column >= 0).squeeze(1)  # other codes end before this level
        codes = column[here]
        sums = torch.zeros(size, residual.shape[1]).index_add_(0, codes, residual[here])
        means = sums / torch.bincount(codes, minlength=size).clamp(min=1)[:, None]
        residual = residual.index_add(0, here, means[codes], alpha=-1)
        noise = nn.functional.normalize(torch.randn(means.shape, generator=generator), dim=1)
        levels.append(nn.functional.normalize(nn.functional.normalize(means, dim=1) + NOISE * noise, dim=1))
    return torch.cat(levels) * LENGTH * _usual_norm(embeddings, items)


class ItemRowsEmbedding(nn.Embedding):
    """An embedding whose item rows train and whose other rows are frozen.

    Args:
        base: the embedding to take over (its weight stays shared with a tied head).
        ids: `int64[n]`, the token ids that items are written in.
    """

    ids: Tensor
    place: Tensor  # (V,): the item row of a token, or -1

    def __init__(self, base: nn.Embedding, ids: Tensor) -> None:
        super().__init__(base.num_embeddings, base.embedding_dim, base.padding_idx, _weight=base.weight)
        self.weight = base.weight  # the same parameter, so that tying survives
        self.weight.requires_grad_(False)
        self.replaced = (base,)  # in a tuple, so that it is no submodule
        self.scale = getattr(base, "embed_scale", None)  # Gemma multiplies its embeddings
        place = torch.full((base.num_embeddings,), -1)
        place[ids] = torch.arange(len(ids))
        device = base.weight.device
        self.register_buffer("ids", ids.to(device), persistent=False)
        self.register_buffer("place", place.to(device), persistent=False)
        self.item_rows = nn.Parameter(base.weight.data[self.ids].clone())

    def forward(self, input: Tensor) -> Tensor:
        """`(..., D)` for ids `(...)`."""
        place = self.place[input]
        rows = nn.functional.embedding(place.clamp(min=0), self.item_rows)
        found = torch.where((place >= 0)[..., None], rows, nn.functional.embedding(input, self.weight))
        return found if self.scale is None else found * torch.as_tensor(self.scale).to(found.dtype)

    @torch.no_grad()
    def write_back(self) -> None:
        """Copy the trained rows into the full weight (and so into a tied head)."""
        self.weight[self.ids] = self.item_rows


def train_item_rows_only(model: PreTrainedModel, items: ItemTokenizer) -> None:
    """Replace the input embedding by an `ItemRowsEmbedding`, in place."""
    model.set_input_embeddings(ItemRowsEmbedding(model.get_input_embeddings(), torch.from_numpy(items.token_ids)))


def restore_embedding(model: PreTrainedModel) -> None:
    """Put the trained rows into an ordinary embedding again, so that the model saves as any other."""
    embedding = model.get_input_embeddings()
    if isinstance(embedding, ItemRowsEmbedding):
        embedding.write_back()
        model.set_input_embeddings(embedding.replaced[0])
        model.requires_grad_(True)


def trained_item_rows(model: PreTrainedModel) -> nn.Parameter | None:
    """The parameter that holds the item rows of the head and nothing else; None where they are part of a larger one."""
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    if (adapter := getattr(head, "token_adapter", None)) is not None:  # PEFT's trainable_token_indices
        if adapter.disable_adapters:  # the reference of a preference loss: the rows before training
            return None
        rows: nn.Parameter = adapter.trainable_tokens_delta[adapter.active_adapters[0]]
        return rows
    if isinstance(embedding, ItemRowsEmbedding) and embedding.weight is head.weight:
        return embedding.item_rows
    return None


def item_head_rows(model: PreTrainedModel, items: ItemTokenizer) -> Tensor:
    """The head's rows of all item tokens, `(item tokens, D)` in the order of `items.token_ids`, with their gradient."""
    rows, weight = trained_item_rows(model), model.get_output_embeddings().weight
    if rows is None:
        return torch.cat([weight[items.rows_of(book)] for book in range(len(items.codebooks))])
    if len(rows) == len(items.token_ids):
        return rows
    old = torch.from_numpy(items.token_ids[: -len(rows)]).to(weight.device)  # LoRA on titles: words, then their end
    return torch.cat([weight[old], rows.to(weight.dtype)])


def model_for_decoding(bare: PreTrainedModel) -> PreTrainedModel:
    """The bare model as the engine needs it in the middle of training, with the trained item rows in its head.

    LoRA weights stay unmerged: merging and unmerging would leave rounding errors in the base weights, and a run that
    is resumed would no longer equal one that was not.
    """
    if isinstance(embedding := bare.get_input_embeddings(), ItemRowsEmbedding):
        embedding.write_back()
    return bare
