"""`prompts/README.md`: every shipped prompt, its template and what it renders to.

python tools/prompts_readme.py           # after a prompt has changed
"""

from __future__ import annotations

from pathlib import Path

from llmrec.tasks.template import ItemCode, PromptTemplate

PROMPTS = Path(__file__).resolve().parent.parent / "prompts"

HEAD = """# Prompts

Every wording that llmrec ships, and what it renders to for a user who took two items. The first line of a group says
what is trained behind it. Written by `python tools/prompts_readme.py`; `llmrec/tasks/template.py` says what a template
may use.
"""

ITEMS = [
    {
        "title": "Sturdy bike bell",
        "description": "A loud bell of brass.",
        "category": "cycling",
        "value": 5,
        "request": "loud bell",
        "code": ItemCode(0),
    },
    {
        "title": "Light tent peg",
        "description": "Holds in soft ground.",
        "category": "camping",
        "value": 3,
        "request": "peg",
        "code": ItemCode(1),
    },
]
ASKED = {"title": "Folding camp stove", "code": ItemCode(2)}
CODES = ("<a_12><b_7>", "<a_3><b_41>", "<a_3><b_8>")

GROUPS = {
    "": "The next item: the code of what the user took next.",
    "choice": "Would the user like this item, and how many stars would it get? Nothing is trained behind these.",
    "alignment/request_to_item": "A request in words: the item's code. `LLMRecommender.search` asks so.",
    "alignment/title_to_item": "Title to item: the item's code.",
    "alignment/item_to_title": "Item to title: the title, and the end of the text.",
    "alignment/description_to_item": "Description to item: the item's code.",
    "alignment/titles_to_item": "A history in titles: the code of what the user took next.",
    "alignment/item_to_category": "Item to category: the category, and the end of the text.",
}


def readme() -> str:
    """The whole text."""
    parts = [HEAD]
    for folder, words in GROUPS.items():
        parts.append(f"## {folder or 'next item'}\n\n{words}\n")
        for path in sorted((PROMPTS / folder).glob("*.jinja")):
            shown = ITEMS if folder in ("", "choice", "alignment/titles_to_item") else ITEMS[:1]
            name = path.relative_to(PROMPTS).with_suffix("").as_posix()
            source = path.read_text().rstrip("\n")
            parts.append(f"`{name}`\n\n```jinja\n{source}\n```\n\n```text\n{rendered(source, shown)}\n```\n")
    return "\n".join(parts)


def rendered(source: str, history: list[dict[str, object]]) -> str:
    """What a language model is shown, with codes as they are written."""
    segments = PromptTemplate(source).segments(history, ASKED)
    return "".join(CODES[int(value)] if kind == "code" else str(value) for kind, value in segments)


if __name__ == "__main__":
    (PROMPTS / "README.md").write_text(readme())
