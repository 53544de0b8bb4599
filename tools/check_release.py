"""Whether a tag may become a release: the package, the changelog and the citation must all name its version.

python3 tools/check_release.py v0.1.0
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def problems(tag: str, root: Path = ROOT) -> list[str]:
    """What stands against releasing under this tag; nothing if all is well."""
    if not (match := re.fullmatch(r"v(\d+\.\d+\.\d+(?:(?:a|b|rc)\d+)?)", tag)):
        return [f"the tag is {tag!r}. Give one such as v0.1.0 or v0.2.0rc1."]
    version = match[1]
    found = []
    package = re.search(r'^__version__ = "(.+)"$', (root / "llmrec" / "__init__.py").read_text(), re.MULTILINE)
    if package is None or package[1] != version:
        found.append(f"llmrec/__init__.py says {package and package[1]}, the tag {version}.")
    if not re.search(rf"^## {re.escape(version)}$", (root / "CHANGELOG.md").read_text(), re.MULTILINE):
        found.append(f"CHANGELOG.md has no section '## {version}'.")
    if f"\nversion: {version}\n" not in (root / "CITATION.cff").read_text():
        found.append(f"CITATION.cff does not say 'version: {version}'.")
    return found


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: check_release.py TAG")
    if against := problems(sys.argv[1]):
        raise SystemExit("\n".join(against))
    print(f"{sys.argv[1]} can be released")
