"""docs/performance.md and the table of docs/recall.md from the raw results: python -m bench.report.

Nobody types a figure.
"""

from __future__ import annotations

import json
from typing import Any, Final

from bench.peers import ROOT
from bench.recall import report as recall_report

RESULTS: Final = ROOT / "bench" / "results"
PAGE: Final = ROOT / "docs" / "performance.md"
_HEAD: Final = """# Performance

Made by `python -m bench.report` from bench/results; `make bench` measures anew. The machine is
small and shared, so read the ratios: every row ran beside its peers, in interleaved rounds on
fresh files of one disk. Figures are medians of the rounds, a ratio is the median of the rounds'
ratios. Where a target is not met, the table says so, and [missed-targets.md](missed-targets.md)
says why.
"""


def keep(result: dict[str, Any]) -> None:
    """Write one sheet's raw result."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    text = json.dumps(result, indent=1, sort_keys=True)
    (RESULTS / f"{result['name']}.json").write_text(text + "\n", encoding="utf-8")


def page() -> str:
    """The page that all kept results make."""
    recall = set(RESULTS.glob(recall_report.FILES))
    files = sorted(set(RESULTS.glob("*.json")) - recall)
    results = [json.loads(path.read_text("utf-8")) for path in files]
    lines = [_HEAD]
    for result in results:
        lines += [f"## {result['title']}", "", *table(result), ""]
    return "\n".join(lines).rstrip() + "\n"


def write() -> None:
    """Make both pages anew."""
    PAGE.write_text(page(), encoding="utf-8")
    recall_report.write()


def table(result: dict[str, Any]) -> list[str]:
    """One sheet as a markdown table, with when and where it was measured."""
    columns = list(dict.fromkeys(name for row in result["rows"] for name in row["medians"]))
    lines = [
        _line(["", *columns, f"x {result['base']}", "target"]),
        _line(["---", *["---:"] * (len(columns) + 1), "---"]),
    ]
    for row in result["rows"]:
        if row["missing"]:
            lines.append(_line([row["name"], *[""] * (len(columns) + 1), row["missing"]]))
            continue
        figures = [shown(row["medians"].get(name)) for name in columns]
        goals = "; ".join(_goal(goal) for goal in row["goals"])
        lines.append(_line([row["name"], *figures, shown(row["ratio"]), goals]))
    on = result["on"]
    lines += [
        "",
        f"{result['at'][:10]}, {result['rounds']} rounds, {on['system']} {on['machine']},"
        f" {on['cores']} cores with a load of {on['load']}, Python {on['python']},"
        f" SQLite {on['sqlite']}. {result['notes']}".rstrip(),
    ]
    return lines


def shown(value: float | None) -> str:
    """A figure with three digits that mean something."""
    if value is None:
        return ""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _goal(goal: dict[str, Any]) -> str:
    against = f" {goal['figure']}"
    if goal["of"]:
        against = f" x {goal['of']} in {goal['figure']}"
    text = f"{goal['sense']} {shown(goal['limit'])}{against}"
    if goal["met"] is None:
        return f"{text}: not compared"
    return f"{text}: {'met' if goal['met'] else 'MISSED'} ({shown(goal['value'])})"


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    write()
