"""The reference of all modules as HTML, made of their docstrings by pdoc.

python tools/api_reference.py build/reference
"""

from __future__ import annotations

import argparse
import pkgutil
import re
import sys
import warnings
from importlib import import_module
from pathlib import Path

import pdoc
import pdoc.render

import llmrec

NOT_ALONE = ("llmrec.__main__", "llmrec.engines.vllm", "llmrec.engines.vllm_states", "llmrec.engines.logits_processor")
"""Starts a program, or imports vLLM, which has an environment of its own."""


def modules() -> list[str]:
    """All modules that have a page."""
    found = [module.name for module in pkgutil.walk_packages(llmrec.__path__, "llmrec.")]
    return ["llmrec", *(name for name in found if name not in NOT_ALONE)]


def write_reference(folder: Path) -> int:
    """Write a page for each module; gives their number.

    Raises:
        RuntimeError: a module cannot be imported, or a name that it offers is not there.
    """
    for name in llmrec.__all__:  # these are imported when first asked for, and pdoc does not ask
        setattr(llmrec, name, getattr(llmrec, name))
    names = modules()
    for name in names:
        import_module(name)
    pdoc.render.configure(docformat="google", math=True, footer_text=f"llmrec {llmrec.__version__}")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        tops = [name for name in names if name.count(".") < 2]  # pdoc finds what is in a package
        left_out = [f"!{re.escape(name)}$" for name in NOT_ALONE]  # patterns that end with the name
        pdoc.pdoc(*tops, *left_out, output_directory=folder)
    told = [str(each.message) for each in said if "pdoc" in each.filename]
    # pdoc looks for the types of a NamedTuple's fields where NamedTuple is defined; the page shows them as written.
    if wrong := [text for text in told if not text.startswith("Error parsing type annotation")]:
        raise RuntimeError("\n".join(wrong))
    return len(names)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    chosen = parser.parse_args()
    print(f"{write_reference(chosen.folder)} pages, open {chosen.folder / 'index.html'}", file=sys.stderr)
