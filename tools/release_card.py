"""Keep model cards as examples in `model_cards/released`: what a card was made of (JSON), and the card (Markdown).

.venv/bin/python tools/release_card.py runs/demo     # a new example, named after its model
.venv/bin/python tools/release_card.py               # all examples again, after a change of the templates
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from llmrec.card import facts_of, render_card
from llmrec.recipe import CardRecipe

RELEASED = Path(__file__).resolve().parent.parent / "model_cards" / "released"


def main() -> None:
    """Write the examples."""
    RELEASED.mkdir(exist_ok=True)
    for folder in sys.argv[1:]:
        facts = facts_of(Path(folder))
        (RELEASED / f"{facts['name']}.json").write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n")
    for path in sorted(RELEASED.glob("*.json")):
        facts = json.loads(path.read_text())
        path.with_suffix(".md").write_text(render_card(facts, CardRecipe(**facts["card"])))
        print(path.with_suffix(".md"))


if __name__ == "__main__":
    main()
