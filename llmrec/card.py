"""The model card (`README.md`) of a model folder, from what lies in it and the answers that only people can give.

    llmrec card runs/demo --data-license "research only (GroupLens)" --license apache-2.0

The text comes from the templates in `model_cards/`; metadata and their format are `huggingface_hub`'s.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

import llmrec
from llmrec import artifact, assets
from llmrec.errors import ArtifactError
from llmrec.recipe import CardRecipe

METADATA = {
    "data_license": "training_data_license",
    "data_link": "training_data_link",
    "license": "license",
    "license_name": "license_name",
    "license_link": "license_link",
    "datasets": "datasets",
    "language": "language",
}
"""How answers are called in the card's metadata, where they are read again."""

TASK = "sequential-recommendation"


def write_card(folder: Path, answers: CardRecipe | None = None, name: str = "") -> CardRecipe:
    """Write the card of a folder.

    Args:
        answers: those that are given now; others stay as the present card has them, else as the recipe says.
        name: of the model; that of its recipe, else of its folder, where it is empty.

    Returns:
        All answers.

    Raises:
        ArtifactError: it is no model folder, or its present card cannot be read.
    """
    facts = facts_of(folder, name)
    known = CardRecipe(**{**facts["card"], **_given(answers_of(folder)), **_given(answers or CardRecipe())})
    artifact.write_text(folder / artifact.CARD, render_card(facts, known))
    return known


def answers_of(folder: Path) -> CardRecipe:
    """What the card of a folder answers.

    Raises:
        ArtifactError: its metadata cannot be read.
    """
    from huggingface_hub import metadata_load

    card = folder / artifact.CARD
    try:
        found = (metadata_load(card) if card.is_file() else None) or {}
    except (ValueError, yaml.YAMLError) as error:
        raise ArtifactError(f"{card} has metadata that are no YAML ({error}). Mend them or remove the file.") from error
    answers = {}
    for name, called in METADATA.items():
        value = found.get(called)
        if value is not None:
            answers[name] = [value] if name in ("datasets", "language") and isinstance(value, str) else value
    return CardRecipe.parse(answers, str(card))


def facts_of(folder: Path, name: str = "") -> dict[str, Any]:
    """Everything of a model folder that a card says, as JSON values without any path of this machine.

    Raises:
        ArtifactError: it is no model folder.
    """
    settings = _json(folder / artifact.RECOMMENDER)
    if settings is None:
        raise ArtifactError(f"{folder} is no model folder: it has no {artifact.RECOMMENDER}. Give one of 'llmrec run'.")
    if not (folder / artifact.CATALOG).is_file():
        raise ArtifactError(f"{folder} is not complete: it has no {artifact.CATALOG}. Save or download it again.")
    recipe_file = folder / artifact.RECIPE
    recipe = yaml.safe_load(recipe_file.read_text()) if recipe_file.is_file() else None
    parameters, size = artifact.count_weights(folder)
    named = recipe or {}
    return {
        "name": name or named.get("name") or folder.resolve().name,
        "kind": settings["kind"],
        "is_language_model": (folder / "config.json").is_file(),
        "settings": settings["settings"],
        "llmrec": settings["llmrec_version"],
        "items": pq.read_metadata(folder / artifact.CATALOG).num_rows,
        "base_model": _without_path(named["model"]["name"]) if "model" in named else None,
        "layers": named["model"].get("layers") if "model" in named else None,
        "data": {"kind": named["data"]["kind"], "name": data_name(named)} if "data" in named else None,
        "index": (_json(folder / artifact.ITEM_INDEX / "index.json") or {}).get("provenance"),
        "stages": _stages(named),
        "seed": named.get("seed"),
        "card": named.get("card") or {},
        "figures": _json(folder / artifact.EVALUATION),
        "made": _json(folder / artifact.MADE),
        "parameters": parameters,
        "bytes": size,
        "hashes": {
            name: hashlib.sha256((folder / name).read_bytes()).hexdigest()
            for name in (artifact.PROMPT, artifact.CATALOG, f"{artifact.ITEM_INDEX}/codes.safetensors", artifact.RECIPE)
            if (folder / name).is_file()
        },
        "plot": (folder / artifact.PLOT).is_file(),
    }


def render_card(facts: dict[str, Any], answers: CardRecipe) -> str:
    """The card as text: metadata in YAML, then Markdown.

    Args:
        facts: from `facts_of`.
    """
    from huggingface_hub import ModelCard, ModelCardData

    figures = facts["figures"]
    results = _results(facts) if figures else None
    language_model = facts["is_language_model"]
    data = ModelCardData(
        base_model=facts["base_model"] if _is_repository(facts["base_model"]) else None,
        library_name="llmrec",
        pipeline_tag="text-generation" if language_model else None,
        tags=[
            *("recommender-system", TASK, "llmrec"),
            *(["transformers"] if language_model else []),
            *(["semantic-ids"] if facts["kind"] == "llm" else []),
            *(["distillation"] if figures and "distillation" in figures else []),
        ],
        model_name=facts["name"],
        eval_results=results,
        **{called: _plain(getattr(answers, name)) for name, called in METADATA.items() if getattr(answers, name)},
    )
    environment = Environment(
        loader=FileSystemLoader(assets.folder("model_cards")),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,
    )
    environment.filters |= {"cell": cell, "figure": figure}
    own = facts["name"] if language_model else facts["kind"]
    students = figures and "distillation" in figures
    template = "student" if students else "model" if language_model else "baseline"
    body = environment.get_template(f"{template}.md.jinja").render(
        **facts,
        answers=answers,
        ks=sorted({int(metric.partition("@")[2]) for metric in figures["test"]["metrics"]}) if figures else [],
        lines={own: figures["test"], **figures["baselines"]} if figures else {},
        weak=weak_slices(figures["test"]) if figures else [],
        version=llmrec.__version__,
    )
    body = re.sub(r"\n{3,}", "\n\n", body).strip()
    return str(ModelCard(f"---\n{data.to_yaml()}\n---\n\n{body}\n"))


def weak_slices(found: dict[str, Any], most: int = 12) -> list[dict[str, Any]]:
    """The slices whose NDCG is below that of all questions with its whole interval, the worst first.

    Args:
        found: an evaluation of `eval.json`. most: at most so many.

    Returns:
        `slicing`, `slice`, `examples`, `metric`, `value`, `interval`, `all`.
    """
    weak = []
    for slicing, slices in (found.get("slices") or {}).items():
        for part in slices:
            metric = max((name for name in part["metrics"] if name.startswith("ndcg@")), key=_length, default=None)
            if metric is None:
                continue
            value, interval, whole = part["metrics"][metric], part["intervals"][metric], found["metrics"][metric]
            if interval[1] < whole:
                of_slice = {"slicing": slicing.replace("_", " "), "slice": part["slice"], "examples": part["examples"]}
                weak.append({**of_slice, "metric": metric, "value": value, "interval": interval, "all": whole})
    return sorted(weak, key=lambda part: part["value"])[:most]


def figure(found: dict[str, Any], metric: str) -> str:
    """A metric with its interval, where there is one: `.0954 [.0871, .1037]`."""
    text = f"{found['metrics'][metric]:.4f}"
    if interval := (found.get("intervals") or {}).get(metric):
        text += f" [{interval[0]:.4f}, {interval[1]:.4f}]"
    return text


def cell(text: Any) -> str:
    """Anybody's text inside a table: on one line, and no markup."""
    flat = " ".join(str(text).split())
    return re.sub(r"([\\`*{}\[\]<>|#!])", r"\\\1", flat)


def _results(facts: dict[str, Any]) -> list[Any]:
    from huggingface_hub import EvalResult

    found = facts["figures"]["test"]
    return [
        EvalResult(
            task_type=TASK,
            task_name="next item",
            dataset_type=facts["data"]["kind"],
            dataset_name=facts["data"]["name"],
            dataset_split="test",
            dataset_args={"protocol": found["protocol"]},
            metric_type=metric,
            metric_name=metric.upper(),
            metric_value=round(value, 5),
            metric_args={"interval": interval} if (interval := (found.get("intervals") or {}).get(metric)) else None,
        )
        for metric, value in found["metrics"].items()
    ]


def _stages(recipe: dict[str, Any]) -> list[dict[str, str]]:
    """The trainings that a recipe names, in their order."""
    found = [{"name": key, "kind": recipe[key].get("kind", key)} for key in ("train", "distill") if key in recipe]
    aligned = [{"name": name, "kind": of["kind"]} for name, of in (recipe.get("align") or {}).items() if of]
    return [*found, *aligned]


def data_name(recipe: dict[str, Any]) -> str:
    """How the data of a recipe (its settings) are called: a name of theirs, or the folder's, without the path."""
    data = recipe["data"]
    place = next((str(data[key]) for key in ("name", "root", "path") if data.get(key)), recipe["name"])
    return _without_path(place)


def _without_path(name: str) -> str:
    """A name of the Hub as it is, of a folder its last part: cards are public."""
    return name if _is_repository(name) and not Path(name).exists() else Path(name).name


def _is_repository(name: str | None) -> bool:
    return name is not None and re.fullmatch(r"[\w.-]+/[\w.-]+", name) is not None


def _given(answers: CardRecipe) -> dict[str, Any]:
    return {name: value for name, value in answers.model_dump().items() if value}


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _length(metric: str) -> int:
    return int(metric.partition("@")[2])


def _json(path: Path) -> Any:
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise ArtifactError(f"{path} cannot be read ({error}). Make the folder again.") from error
