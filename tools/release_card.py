"""Keep model cards as examples in `model_cards/released`: what a card was made of (`facts.json`), and the card.

.venv/bin/python tools/release_card.py runs/demo     # a new example, named after its model
.venv/bin/python tools/release_card.py               # all examples again, after a change of the templates
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

from llmrec import artifact
from llmrec.card import facts_of, render_card
from llmrec.recipe import CardRecipe

RELEASED = Path(__file__).resolve().parent.parent / "model_cards" / "released"


def main() -> None:
    """Write the examples."""
    for folder in map(Path, sys.argv[1:]):
        facts = facts_of(folder)
        kept = RELEASED / facts["name"]
        kept.mkdir(parents=True, exist_ok=True)
        (kept / "facts.json").write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n")
        if facts["plot"]:
            shutil.copyfile(folder / artifact.PLOT, kept / artifact.PLOT)
    for path in sorted(RELEASED.glob("*/facts.json")):
        facts = json.loads(path.read_text())
        path.with_name(artifact.CARD).write_text(render_card(facts, CardRecipe(**facts["card"])))
        print(path.parent)


if __name__ == "__main__":
    main()
