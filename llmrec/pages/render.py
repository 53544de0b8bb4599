"""One HTML file from a template, the shared style and a script; nothing of what is shown is ever read as markup.

The template and the script escape every text, and the page forbids every script but its own.
"""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup


def render(template: Path, **values: Any) -> str:
    """The page; beside `NAME.html.jinja` lie `NAME.css` and `NAME.js`.

    Args:
        template: the `.html.jinja` file. It gets `style`, `script` and `script_hash`, for its Content-Security-Policy.
        values: what else it shows; only `Markup` is taken as it is.
    """
    base = template.with_name(template.name.removesuffix(".html.jinja"))
    script = base.with_suffix(".js").read_text()
    environment = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=True)
    environment.filters |= {"share": share, "number": number, "significant": significant, "amount": amount}
    page = environment.from_string(template.read_text()).render(
        style=Markup(Path(__file__).with_name("page.css").read_text() + base.with_suffix(".css").read_text()),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        **values,
    )
    return page.encode("utf-8", "replace").decode()  # half of a surrogate pair, which no file can hold


def script_json(value: Any) -> str:
    """JSON that can stand inside of a script element: no text in it can end the element or begin a comment."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def one_line(text: object, longest: int = 200) -> str:
    """A text without line breaks, not too long."""
    line = " ".join(str("" if text is None else text).split())
    return line if len(line) <= longest else f"{line[:longest]}\u2026"


def share(value: float | None) -> str:
    """A share in per cent, a dash where nothing was measured."""
    return (
        "\u2013" if value is None else f"{value * 100:.1f}%" if value >= 0.001 or value == 0 else f"{value * 100:.2g}%"
    )


def number(value: float | None, places: int = 0) -> str:
    """A number with commas, a dash where nothing was measured."""
    return "\u2013" if value is None else f"{value:,.{places}f}"


def significant(value: float | None) -> str:
    """A number in about three digits, whatever its size, a dash where nothing was measured."""
    return "\u2013" if value is None else f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def amount(value: float | None) -> str:
    """A large number in short: `2.4 k`, `70.9 M`; a dash where nothing was measured."""
    if value is None:
        return "\u2013"
    size, unit = next((pair for pair in ((1e9, "G"), (1e6, "M"), (1e3, "k")) if value >= pair[0]), (1.0, ""))
    return f"{value / size:,.1f}".removesuffix(".0") + f" {unit}" if unit else f"{value:,.0f}"
