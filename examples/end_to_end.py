"""All of llmrec on one page: a toy shop becomes item codes, a language model learns them, real items come out.

    .venv/bin/python examples/end_to_end.py
    .venv/bin/python examples/end_to_end.py --model path/to/a/model --layers 4 --epochs 5

`llmrec run` does the same from a recipe, and keeps every stage, so that a killed run continues. Nothing is downloaded
but the base model. In the toy shop every second step leads to an item's one partner and the rest is chance: who knew
its rules would reach an HR@10 of 0.90, and popularity knows nothing (docs/data.md).
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from llmrec import Recommender, assets
from llmrec.base_models import load_model
from llmrec.data.split import leave_one_out
from llmrec.evaluation.protocol import evaluate
from llmrec.evaluation.report import print_comparison, print_user
from llmrec.indexes.item_tokenizer import ItemTokenizer
from llmrec.indexes.rqkmeans import RQKMeansIndex
from llmrec.recommenders.markov import Markov
from llmrec.recommenders.popularity import Popularity
from llmrec.sources.synthetic import SyntheticSource
from llmrec.tasks.next_item import NextItemTask
from llmrec.tasks.template import PromptTemplate
from llmrec.trainers.sft import SFT


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the pipeline and print what came out."""
    chosen = parse(arguments)
    on_gpu = torch.cuda.is_available()

    # 1. A source gives two tables: what each item says about itself, and who took what when.
    catalog, interactions = SyntheticSource().load()

    # 2. A split cuts them: each user's last item is a test question, the one before it a validation question.
    split = leave_one_out(interactions)

    # 3. An index gives every item a short code of its own, from texts and train rows only.
    index = RQKMeansIndex(
        encoder={"kind": "tfidf", "fields": ["title", "category"]}, levels=[8, 16], collisions="nearest"
    ).build(catalog, split.train)

    # 4. Bound to a tokenizer, the codes become new vocabulary tokens: (3, 12) is written <a_3><b_12>.
    model, tokenizer = load_model(chosen.model, chosen.layers)
    items = ItemTokenizer.bind(tokenizer, index)
    print(f"'{catalog.title(0)}' is {items.tokens(0)}")

    # 5. A task renders a history as a prompt, the same one for training, evaluation and use.
    template = PromptTemplate(assets.path("prompts", "next_item.jinja").read_text())
    task = NextItemTask(template, catalog, items, max_history=20)

    # 6. A trainer changes the model; `args` are the fields of trl.SFTConfig.
    sft = SFT(
        item_rows_lr=5e-3,
        patience=2,
        args={
            "num_train_epochs": chosen.epochs,
            "per_device_train_batch_size": 16,
            "learning_rate": 1e-3,
            "bf16": on_gpu,
            "use_cpu": not on_gpu,
            "gradient_checkpointing": False,
        },
    )
    with tempfile.TemporaryDirectory() as checkpoints:
        trained, _ = sft.train(model, task, split.train, split.valid, Path(checkpoints), seed=0)

    # 7. Evaluation asks every recommender the same questions and does not know what it is.
    recommenders: dict[str, Recommender] = {
        "llm": trained,
        "markov": Markov().fit(split.train, catalog),
        "popularity": Popularity().fit(split.train, catalog),
    }
    print_comparison({name: evaluate(r, split.test, split=split.protocol) for name, r in recommenders.items()})

    # 8. One folder holds all that is needed to recommend.
    trained.save_pretrained(chosen.output)
    loaded = Recommender.from_pretrained(chosen.output)
    history = split.test.histories[0]
    print(f"\nmodel folder: {chosen.output}")
    print_user(loaded.catalog, history, loaded.recommend([history], k=5), targets=split.test.targets[0])


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """What the user chose."""
    parser = argparse.ArgumentParser(description="The whole pipeline on a toy shop.")
    parser.add_argument("--model", default="HuggingFaceTB/SmolLM2-135M-Instruct", help="a folder or a Hub name")
    parser.add_argument("--layers", type=int, default=2, help="keep so many transformer blocks (default 2)")
    parser.add_argument("--epochs", type=float, default=10, help="passes over the training data (default 10)")
    parser.add_argument("--output", type=Path, default=Path("runs/end_to_end"), help="the model folder")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
