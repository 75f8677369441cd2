"""The tables of docs/reliability.md, made from the kept results, so that no figure is typed.

Usage: python -m soak.report [--check]. Without --check the page is rewritten.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Final

import msgspec

from soak.campaign import RESULTS, Result

PAGE: Final = Path(__file__).parent.parent / "docs" / "reliability.md"
BEGIN: Final = "<!-- results: python -m soak.report -->"
END: Final = "<!-- end of results -->"
ORDER: Final = (
    "kills",
    "power",
    "opens",
    "strings",
    "faults",
    "pauses",
    "growth",
    "pg-kills",
    "pg-cuts",
    "pg-tenants",
    "pg-pooled",
    "pg-matrix",
    "pg-patroni",
    "pg-full",
    "merges",
    "agreement",
)


def results(folder: Path = RESULTS) -> list[Result]:
    """The kept results, in the order of the page."""
    kept = [folder / f"{name}.json" for name in ORDER]
    return [msgspec.json.decode(path.read_bytes(), type=Result) for path in kept if path.exists()]


def section(found: list[Result]) -> str:
    """The tables, as Markdown."""
    lines = [
        "| campaign | trials | found | with 95 % confidence | saboteurs: found in the same run |",
        "|---|---|---|---|---|",
    ]
    lines += [_row(result) for result in found]
    lines += ["", "| campaign | what the trials held | made by |", "|---|---|---|"]
    lines += [_held(result) for result in found]
    lines += ["", *_machines(found)]
    return "\n".join(lines)


def _row(result: Result) -> str:
    caught = "; ".join(
        f"{s.name}: {s.findings:,} in {s.trials:,}" if s.caught else f"{s.name}: NOT CAUGHT"
        for s in result.saboteurs
    )
    rate = f"below {300 / result.trials:.2g} % a trial" if not result.findings else "a fault"
    if result.campaign == "growth":
        rate = "(a measurement, not a rate)"
    name = f"{result.campaign}: {result.trial}"
    return f"| {name} | {result.trials:,} | **{result.findings:,}** | {rate} | {caught} |"


def _held(result: Result) -> str:
    counts = ", ".join(f"{name.replace('_', ' ')} {n:,}" for name, n in result.counts.items())
    made = f"`{result.command}`, {result.day}, {result.seconds:,.0f} s"
    return f"| {result.campaign} | {counts} | {made} |"


def _machines(found: list[Result]) -> list[str]:
    machines: list[dict[str, Any]] = []
    for result in found:
        if result.machine not in machines:
            machines.append(result.machine)
    return [
        f"Made on {m['system']}, {m['cores']} cores that did other work meanwhile, Python"
        f" {m['python']}, SQLite {m['sqlite']} (apsw {m['apsw']})."
        for m in machines
    ]


def page(text: str, found: list[Result]) -> str:
    """The page with its tables replaced."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{section(found)}\n\n{END}{after}"


def main(arguments: list[str]) -> int:
    """Rewrite the page, or say whether it is what the results say."""
    text = PAGE.read_text(encoding="utf-8")
    wanted = page(text, results())
    if arguments == ["--check"]:
        return 0 if text == wanted else 1
    PAGE.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
