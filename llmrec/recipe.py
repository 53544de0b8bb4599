"""A recipe is one run in YAML: where the data are, how items become codes, which model, how it trains.

    extends: base.yaml            # optional, beside this file or among the shipped recipes; this file's keys win
    name: office
    data: {kind: table, root: path/to/tables}
    ...

Every key can be replaced on the command line by its dotted name: `train.args.learning_rate=1e-4`. Unknown keys are
refused, with the closest known one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, field_validator

from llmrec import artifact, assets
from llmrec.component import Component
from llmrec.errors import RecipeError
from llmrec.registry import resolve

Settings = dict[str, Any]


class SplitRecipe(Component):
    """How train, valid and test are cut; see `llmrec.data.split`.

    Args:
        kind: `leave_one_out` or `global_temporal`. min_user_events, min_item_events: the k-core kept before the cut.
        targets: events of a user that are one question, for `leave_one_out` only.
        valid, test: shares of the events, for `global_temporal` only. together: all that a user took behind a cut is
            one question, for `global_temporal` only.
    """

    kind: Literal["leave_one_out", "global_temporal"] = "leave_one_out"
    min_user_events: int = Field(1, ge=1)
    min_item_events: int = Field(1, ge=1)
    targets: int = Field(1, ge=1)
    valid: float = 0.1
    test: float = 0.1
    together: bool = False


Dtype = Literal["float32", "bfloat16", "float16"]


class QuantizationRecipe(Component):
    """How the linear layers of the base model are kept while an adapter trains beside them (bitsandbytes).

    Args:
        kind: `nf4` (four bits, QLoRA) or `int8` (LLM.int8()). double: `nf4` quantizes its scales too, which saves 0.4
            bits a weight. compute_dtype: of the products with `nf4`; `model.dtype` when None.
        storage: what holds the four-bit codes; sharding by FSDP wants the type of the other weights, `model.dtype`.
    """

    kind: Literal["nf4", "int8"]
    double: bool = True
    compute_dtype: Dtype | None = None
    storage: Literal["uint8", "float32", "bfloat16", "float16"] = "uint8"


class ModelRecipe(Component):
    """The base model.

    Args:
        name: a folder or a Hub name. layers: keep the first so many blocks; all when None. dtype: of its weights.
        quantization: QLoRA; only with `tuning: lora`, in every stage.
    """

    name: str
    layers: int | None = Field(None, ge=1)
    dtype: Dtype = "float32"
    quantization: QuantizationRecipe | None = None


class TaskRecipe(Component):
    """The prompt.

    Args:
        template: a file in `prompts/` (without `.jinja`) or a path. max_history: items of a history that it shows.
    """

    template: str = "next_item"
    max_history: int = Field(50, ge=1)


class SampledRecipe(Component):
    """Ranking among drawn items instead of the whole catalog; see `llmrec.evaluation.sampled` for why not to.

    Args:
        negatives: items drawn beside the targets of a question. seed: of the draws.
        drawn: `uniform`, or by `popularity` in train.
    """

    negatives: int = Field(ge=1)
    seed: int = Field(ge=0)
    drawn: Literal["uniform", "popularity"] = "uniform"


class EvaluationRecipe(Component):
    """What is measured at the end, on the test questions.

    Args:
        ks: list lengths. exclude_seen: leave out items of the history. baselines: `recommender` names to print beside
            the model. users: questions drawn by the seed; all when None.
        precision: arithmetic of the model while it decodes.
        category: a column of the catalog by which results are sliced and lists called diverse; where it is None, the
            column `category` or `categories`, if there is one.
        samples: draws of users behind every interval.
        sampled: rank among drawn items, to reproduce figures that were published so; the whole catalog when None.
    """

    ks: tuple[Annotated[int, Field(ge=1)], ...] = Field((5, 10), min_length=1)
    exclude_seen: bool = True
    baselines: tuple[str, ...] = ("popularity", "markov")
    users: int | None = Field(None, ge=1)
    precision: Literal["float32", "bfloat16"] = "float32"
    category: str | None = None
    samples: int = Field(1000, ge=1)
    sampled: SampledRecipe | None = None


class CardRecipe(Component):
    """What only people can say of a model; it goes into the model card.

    Args:
        data_license: of the training data: an identifier of the Hub (`cc-by-4.0`), or words. A model that does not say
            is not pushed. data_link: where it is written.
        license: of the model, an identifier of the Hub; `other` with a `license_name` and a `license_link`.
        datasets: the training data on the Hub. language: of the texts, such as `en`.
    """

    data_license: str | None = None
    data_link: str | None = None
    license: str | None = None
    license_name: str | None = None
    license_link: str | None = None
    datasets: tuple[str, ...] = ()
    language: tuple[str, ...] = ()


class AnyRecipe(Component):
    """What every run says, whatever it makes. `data` names a plug-in with `kind` and its settings.

    Args:
        name: of the run; its folder is `output/name`. seed: of everything random.
        output: parent of the run's folder and of the stage cache.
        card: for the model card.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    seed: int = 0
    output: Path = Path("runs")
    data: Settings
    split: SplitRecipe = SplitRecipe()
    evaluation: EvaluationRecipe = EvaluationRecipe()
    card: CardRecipe = CardRecipe()

    @property
    def makes(self) -> str:
        """The registered name of the recommender that comes out."""
        raise NotImplementedError

    @property
    def trained_under(self) -> str | None:
        """The key whose `args` are those of TRL; None where TRL has no part."""
        return None

    def to_yaml(self) -> str:
        """The resolved recipe, as saved beside a model."""
        return yaml.dump(self.settings(), Dumper=_Dumper, sort_keys=False, allow_unicode=True)


class Recipe(AnyRecipe):
    """A run that makes a language model a recommender. `index`, `train` and `decoding` name plug-ins as `data` does.

    Args:
        align: further trainers by a name of one's own, each going on from the one before, such as
            `{sdpo: {kind: dpo}}`; None leaves an inherited one out. The model that is best on validation is kept.
    """

    index: Settings
    model: ModelRecipe
    task: TaskRecipe = TaskRecipe()
    train: Settings
    align: dict[str, Settings | None] = {}
    decoding: Settings = {}

    @field_validator("align")
    @classmethod
    def _names_are_free(cls, align: dict[str, Settings | None]) -> dict[str, Settings | None]:
        for name in align:
            if name in ("kind", "train") or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
                raise ValueError(
                    f"'{name}' cannot name a stage; write align: {{NAME: {{kind: dpo, ...}}}} with letters, digits, _ "
                    "and -, and another name than 'train' and 'kind'"
                )
        return align

    @property
    def alignments(self) -> dict[str, Settings]:
        """The stages of `align` that are not left out, in their order."""
        return {name: settings for name, settings in self.align.items() if settings is not None}

    @property
    def makes(self) -> str:
        """What the trainer makes: a language model that writes codes, or one with an item head.

        Raises:
            RecipeError: there is no such trainer.
        """
        return str(resolve("trainer", str(self.train.get("kind"))).makes)

    @property
    def trained_under(self) -> str:
        """The key `train`."""
        return "train"


class DistillRecipe(AnyRecipe):
    """A run that teaches a small model what a finished one knows: `teacher: FOLDER` in place of index, model and task.

    Args:
        teacher: a model folder made by llmrec. distill: settings of `llmrec.trainers.distill.Distill`.
        decoding: as in `Recipe`; what it does not say is as the teacher has it.
    """

    teacher: Path
    distill: Settings
    decoding: Settings = {}

    @property
    def makes(self) -> str:
        """A language model."""
        return "llm"

    @property
    def trained_under(self) -> str:
        """The key `distill`."""
        return "distill"


class BaselineRecipe(AnyRecipe):
    """A run that fits another recommender: `recommender: {kind: sasrec, ...}` in place of index, model and training."""

    recommender: Settings

    @property
    def makes(self) -> str:
        """The kind that the recipe names."""
        return str(self.recommender.get("kind"))


def load_recipe(name: str | Path, overrides: Sequence[str] = ()) -> Recipe | DistillRecipe | BaselineRecipe:
    """Read a recipe, follow `extends`, apply overrides, check.

    One with a `recommender` is that of a baseline, one with a `teacher` that of a distillation.

    Args:
        name: a YAML file, or the name of a shipped recipe (`demo`, `sft/office_smollm2_cpu`).
        overrides: `dotted.key=value`, the value in YAML (`train.patience=null`, `index.levels=[64,64]`).

    Raises:
        RecipeError: the file, a key or a value cannot be used.
    """
    settings = _read(find_recipe(name))
    for override in overrides:
        _override(settings, override)
    if "recommender" in settings:
        return BaselineRecipe.parse(settings)
    return DistillRecipe.parse(settings) if "teacher" in settings else Recipe.parse(settings)


def distill_recipe(teacher: Path, overrides: Sequence[str] = ()) -> DistillRecipe:
    """The shipped settings of a distillation, on the data, the questions and the hardware of the teacher's own recipe.

    Args:
        teacher: a model folder made by `llmrec run`. overrides: as for `load_recipe`.

    Raises:
        RecipeError: the folder has no recipe, or an override cannot be used.
    """
    if not (teacher / artifact.RECIPE).is_file():
        raise RecipeError(
            f"{teacher / artifact.RECIPE} is missing, and it would say what data the teacher knows. Give a folder made "
            "by 'llmrec run', or write a recipe with 'teacher:' and 'data:' (see recipes/distill)."
        )
    own = _read(teacher / artifact.RECIPE)
    shared: Settings = {
        key: own[key] for key in ("seed", "output", "data", "split", "evaluation", "decoding", "card") if key in own
    }
    theirs = (own.get("train") or own.get("distill") or {}).get("args", {})
    hardware = {key: theirs[key] for key in ("use_cpu", "bf16", "fp16") if key in theirs}
    named = {"name": f"{teacher.resolve().name}_student", "teacher": str(teacher), "distill": {"args": hardware}}
    settings = _merge(_read(find_recipe("distill/base")), {**shared, **named})
    for override in overrides:
        _override(settings, override)
    return DistillRecipe.parse(settings)


def shipped_recipes() -> list[str]:
    """The names of all shipped recipes that are a run by themselves, such as `demo` and `sft/office_smollm2_cpu`.

    A `base.yaml` holds what those beside it share; the files of `accelerate/` are for its launcher.
    """
    files = [Path(name) for name in assets.names("recipes") if name.endswith(".yaml")]
    return [
        file.as_posix().removesuffix(".yaml") for file in files if file.stem != "base" and file.parts[0] != "accelerate"
    ]


def find_recipe(name: str | Path) -> Path:
    """The file of a recipe: a path if it exists, otherwise a shipped recipe of that name.

    Raises:
        LlmrecError: neither.
    """
    if Path(name).is_file():
        return Path(name)
    shipped = str(name).removeprefix("recipes/")
    return assets.path("recipes", shipped if shipped.endswith(".yaml") else f"{shipped}.yaml")


def _read(path: Path, seen: tuple[Path, ...] = ()) -> Settings:
    path = path.resolve()
    if path in seen:
        raise RecipeError(f"{path}: 'extends' comes back to itself ({' -> '.join(map(str, seen))}).")
    try:
        settings = yaml.load(path.read_text(), _Loader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise RecipeError(f"{path} cannot be read as YAML: {error}") from error
    if not isinstance(settings, dict):
        raise RecipeError(f"{path} holds no keys. A recipe begins with 'name: ...'.")
    parent = settings.pop("extends", None)
    if parent is None:
        return settings
    if not isinstance(parent, str):
        raise RecipeError(f"{path}: extends is {parent!r}. Give the name of one recipe, such as 'extends: base.yaml'.")
    beside = path.parent / parent
    return _merge(_read(beside if beside.is_file() else find_recipe(parent), (*seen, path)), settings)


def _merge(base: Settings, changes: Settings) -> Settings:
    """`changes` over `base`, key by key; a plug-in of another kind replaces the whole mapping."""
    if "kind" in base and "kind" in changes and base["kind"] != changes["kind"]:
        return changes
    merged = dict(base)
    for key, value in changes.items():
        both = isinstance(value, dict) and isinstance(base.get(key), dict)
        merged[key] = _merge(base[key], value) if both else value
    return merged


def _override(settings: Settings, override: str) -> None:
    key, equals, value = override.partition("=")
    if not equals or not key:
        raise RecipeError(
            f"'{override}' is no override. Write dotted.key=value, such as train.args.learning_rate=1e-4."
        )
    *parents, last = key.split(".")
    place = settings
    for part in parents:
        place = place.setdefault(part, {})
        if not isinstance(place, dict):
            raise RecipeError(f"{key}: '{part}' holds a value, not settings.")
    try:
        place[last] = yaml.load(value, _Loader)
    except yaml.YAMLError as error:
        raise RecipeError(f"{key}: '{value}' is not a YAML value: {error}") from error


class _Loader(yaml.SafeLoader):
    """YAML 1.1 reads `1e-4` as text; people mean a number."""


class _Dumper(yaml.SafeDumper):
    """Quotes the texts that `_Loader` would take for numbers."""


for _class in (_Loader, _Dumper):
    _class.add_implicit_resolver(
        "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9][0-9_]*(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
    )
