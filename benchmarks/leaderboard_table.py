"""`docs/leaderboard.md`, made of `benchmarks/results/leaderboard/*.json`; no benchmark by itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from common import RESULTS

from llmrec.evaluation.published import every

PAGE = Path(__file__).resolve().parents[1] / "docs" / "leaderboard.md"

HEAD = """# Leaderboard

All baselines and llmrec's own models, one line a model, best NDCG@10 first. Every line was measured by
`benchmarks/leaderboard.py` and is a file in `benchmarks/results/leaderboard/`, with settings, hardware and versions;
this page is made of them by

```bash
python benchmarks/leaderboard.py --table
```

Brackets hold 95% bootstrap intervals over the users of one run. Seconds are those of the fit, of all CPU threads; a
line without them is of a model that was trained before. What the models are: [baselines](baselines.md).
"""


def write_table() -> int:
    """Write the page; gives the number of lines."""
    lines = [json.loads(path.read_text()) for path in sorted((RESULTS / "leaderboard").glob("*.json"))]
    sections = [_section(data, [line for line in lines if line["data"] == data]) for data in _datasets(lines)]
    PAGE.write_text("\n".join([HEAD, *sections]))
    return len(lines)


def _datasets(lines: list[dict[str, Any]]) -> list[str]:
    return sorted({line["data"] for line in lines})


def _section(data: str, lines: list[dict[str, Any]]) -> str:
    ordered = sorted(lines, key=lambda line: -line["ndcg@10"])
    rows = []
    for line in ordered:
        quality = [f"`{line['model']}`", _number(line, "hr@10"), _number(line, "ndcg@10")]
        cost = [line.get("cpu_seconds", ""), f"{line['users_per_second']:,.0f}", line["seeds"]]
        rows.append(f"| {' | '.join(map(str, quality + cost))} |")
    text = [
        f"## {data}",
        "",
        f"{lines[0]['protocol'][0].upper()}{lines[0]['protocol'][1:]}.",
        "",
        "| model | HR@10 | NDCG@10 | CPU seconds to fit | users a second | seeds |",
        "|---|---|---|---|---|---|",
        *rows,
        "",
    ]
    if known := every().get(data):
        figures = []
        for line in known["lines"]:
            values = [_plain(line[name]) if name in line else "-" for name in ("hr@10", "ndcg@10")]
            figures.append(f"{line['model']} {' / '.join(values)}")
        text += [
            f"Published by others on the same data, by another protocol ({known['protocol']}), HR@10 / NDCG@10:",
            f"{'; '.join(figures)}. Sources: `llmrec/evaluation/published.yaml`.",
            "",
        ]
    return "\n".join(text)


def _number(line: dict[str, Any], name: str) -> str:
    interval = line.get("intervals", {}).get(name)
    text = _plain(line[name])
    return text if interval is None else f"{text} [{_plain(interval[0])}, {_plain(interval[1])}]"


def _plain(value: float) -> str:
    return f"{value:.4f}".removeprefix("0")
