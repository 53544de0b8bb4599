"""The folder of a language model as a recommender: written whole, and read only if its parts belong together.

Prompt and codes are those that the weights were trained with, or the folder is refused, also where the weights are not
read because another process has them.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pyarrow.parquet as pq
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, GenerationConfig, PreTrainedModel

import llmrec
from llmrec import artifact, assets
from llmrec.base_models import keep_layout, keep_soft_cap
from llmrec.data.catalog import Catalog
from llmrec.errors import ArtifactError
from llmrec.indexes.item_tokenizer import ItemTokenizer
from llmrec.recommenders.base import RecommenderSettings, load_recommender_settings, save_recommender_settings
from llmrec.recommenders.item_projection import ItemProjection
from llmrec.tasks.next_item import NextItemTask
from llmrec.tasks.template import PromptTemplate

KIND = "llm"

T = TypeVar("T")


def write_folder(
    folder: Path,
    model: PreTrainedModel,
    task: NextItemTask,
    decoding: dict[str, Any],
    kind: str = KIND,
    write_more: Callable[[Path], None] | None = None,
) -> None:
    """Write a model folder (see `llmrec.artifact`), merged weights, no pickle.

    Args:
        decoding: the settings that go into `recommender.json`. kind: of the recommender.
        write_more: writes what this kind has beside the rest.
    """
    tokenizer = task.items.tokenizer

    def write(target: Path) -> None:
        # The base model's sampling defaults (top_k, temperature, penalties) must not reach anybody's beams.
        model.generation_config = GenerationConfig(
            eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
        )
        model.save_pretrained(target)
        tokenizer.save_pretrained(target)
        task.items.index.save(target / artifact.ITEM_INDEX)
        pq.write_table(task.catalog.table, target / artifact.CATALOG)
        (target / artifact.PROMPT).write_bytes(task.template.source.encode())  # line ends as they were hashed
        if task.search is not None:
            (target / artifact.SEARCH_PROMPT).write_bytes(task.search.source.encode())
        (target / artifact.HANDLER).write_text(assets.path("model_cards", "handler.py").read_text())
        if write_more is not None:
            write_more(target)
        settings = {
            **decoding,
            "max_history": task.max_history,
            "prompt_sha256": task.template.digest,
            "codes_sha256": task.items.index.digest,
        }
        if task.search is not None:
            settings["search_sha256"] = task.search.digest
        save_recommender_settings(target, RecommenderSettings(kind, settings, llmrec.__version__))

    artifact.write_folder(folder, write, last=artifact.RECOMMENDER)


def read_task(folder: Path, kind: str = KIND) -> tuple[NextItemTask, dict[str, Any]]:
    """Everything of a model folder but the weights.

    Args:
        kind: of the recommender that it must hold.

    Returns:
        The task, and how to decode, as `write_folder` was given it.

    Raises:
        ArtifactError: a file is missing or damaged, or the prompt or the codes are not those that were trained.
    """
    saved = load_recommender_settings(folder)
    if saved.kind != kind:
        wanted = "a language model that writes codes" if kind == KIND else f"one of the kind '{kind}'"
        raise ArtifactError(f"{folder} holds a '{saved.kind}' recommender, not {wanted}.")
    settings = dict(saved.settings)
    prompt_sha256, codes_sha256 = settings.pop("prompt_sha256", None), settings.pop("codes_sha256", None)
    max_history = int(settings.pop("max_history", 0))
    wording = _wording(folder, artifact.PROMPT, prompt_sha256)
    search_sha256 = settings.pop("search_sha256", None)
    search = None if search_sha256 is None else _wording(folder, artifact.SEARCH_PROMPT, search_sha256)
    catalog = _complete(folder, lambda: Catalog(pq.read_table(folder / artifact.CATALOG)))
    items = _complete(folder, lambda: ItemTokenizer.load(folder))
    if items.index.digest != codes_sha256:
        raise ArtifactError(f"{folder / artifact.ITEM_INDEX} is not the index that this model was trained with.")
    if not items.index.is_for(catalog.items):
        raise ArtifactError(
            f"{folder / artifact.CATALOG} lists other items, or in another order, than the codes were made for."
        )
    return NextItemTask(wording, catalog, items, max_history, search), settings


def read_weights(folder: Path, dtype: str, device: str | None) -> PreTrainedModel:
    """The language model of a folder, ready to be asked.

    Args:
        dtype: torch's name, or `auto` for the type that was saved.
        device: a torch device; CUDA when there is one, otherwise the CPU.

    Raises:
        ArtifactError: a file is missing or damaged.
    """
    # Where no safetensors are, transformers would read a pickle.
    load = partial(AutoModelForCausalLM.from_pretrained, folder, dtype=dtype, use_safetensors=True)
    model = _complete(folder, load)
    keep_soft_cap(model)
    return model.to(device or ("cuda" if torch.cuda.is_available() else "cpu")).eval()


def write_projection(head: ItemProjection, folder: Path) -> None:
    """Write `item_head/`; a folder of its own, for vLLM reads all safetensors beside `config.json` as the model's."""
    weights = {"text": head.text, **head.state_dict()}
    (folder / artifact.ITEM_HEAD).mkdir()
    plain = {name: weight.detach().cpu().float().contiguous() for name, weight in weights.items()}
    save_file(plain, folder / artifact.ITEM_HEAD / artifact.ITEM_HEAD_WEIGHTS)


def read_projection(folder: Path) -> ItemProjection:
    """What `write_projection` wrote.

    Raises:
        ArtifactError: it is missing or damaged.
    """
    path = folder / artifact.ITEM_HEAD / artifact.ITEM_HEAD_WEIGHTS
    weights = _complete(folder, lambda: load_file(path))
    try:
        (dimensions, hidden), text = weights["of_state"].shape, weights.pop("text")
        head = ItemProjection(text, hidden, dimensions, reads="read" in weights)
        head.load_state_dict(weights)
    except (KeyError, ValueError, RuntimeError) as error:
        raise ArtifactError(f"{path} is not a readable item head ({error}). Save or download it again.") from error
    return head.eval()


def read_quantized(folder: Path, quantization_config: Any, **arguments: Any) -> PreTrainedModel:
    """The weights of a folder, quantized while they are read.

    Args:
        quantization_config: one of transformers, such as `TorchAoConfig`. **arguments: more for `from_pretrained`.
    """
    load = partial(AutoModelForCausalLM.from_pretrained, folder, dtype="auto", use_safetensors=True)
    model = _complete(folder, partial(load, quantization_config=quantization_config, **arguments))
    keep_layout(model)
    keep_soft_cap(model)
    return model


def copy_about(source: Path, target: Path) -> None:
    """Take over what is said about a model folder: its recipe, its figures, its card, how it came about.

    Raises:
        ArtifactError: both are the same folder.
    """
    if target.resolve() == source.resolve():
        raise ArtifactError(f"{target} is the folder that was read. Name another for the result.")
    for name in artifact.ABOUT:
        if name != artifact.HANDLER and (source / name).is_file():
            with artifact.appears_whole(target / name) as neighbour:
                shutil.copyfile(source / name, neighbour)


def _wording(folder: Path, name: str, sha256: str | None) -> PromptTemplate:
    source = _complete(folder, (folder / name).read_bytes)
    if hashlib.sha256(source).hexdigest() != sha256:
        raise ArtifactError(
            f"{folder / name} is not the wording that this model was trained with. Restore it: another prompt gives "
            "silently worse recommendations."
        )
    return PromptTemplate(source.decode())


def _complete(folder: Path, read: Callable[[], T]) -> T:
    try:
        return read()
    except ImportError as error:  # of a quantized folder
        raise ArtifactError(f"{folder} needs a package that is not installed: {error}") from error
    except (OSError, ValueError, SafetensorError) as error:
        raise ArtifactError(f"{folder} is not a complete model folder ({error}). Save or download it again.") from error
