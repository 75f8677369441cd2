"""The table of docs/recall.md from the kept results; `python -m bench.report` writes it too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[2]
RESULTS: Final = ROOT / "bench" / "results"
PAGE: Final = ROOT / "docs" / "recall.md"
START: Final = "<!-- results: python -m bench.report -->\n"
END: Final = "<!-- end of results -->"
FILES: Final = "recall-*.json"

_HEAD: Final = (
    "| set | embedder | system | questions | R@5 | R@10 | in 95 % | paired | nDCG@10 | CPU ms |",
    "|---|---|---|---:|---:|---:|---|---|---:|---:|",
)
_SETS: Final = {"locomo_public": "LoCoMo, part", "beam100k_public": "BEAM-100K, part"}
_EMBEDDERS: Final = {
    "hashed": "hash",
    "minilm-int8": "minilm",
    "minilm": "MiniLM, 32-bit",
    "wordllama-ours": "static",
    "wordllama": "WordLlama",
}
_SYSTEMS: Final = {
    "Stored": "**holdfast**",
    "StoredLate": '**the same with `reranker="late"`**',
    "Messages": "the same turns as messages of conversations",
    "Plain": "the recipe over arrays",
    "RecipeWithRrf": "the recipe, ranks in place of scores",
    "Convex": "names cut, dates indexed, scores blended",
    "StoredRrf": "ranks fused (RRF), speaker in the text",
    "Rrf": "ranks fused (RRF), speaker in the text, over arrays",
}


_ENGINES: Final = {"file": "", "postgresql": ", in PostgreSQL"}


def page(text: str, results: list[dict[str, Any]]) -> str:
    """The page with its table made anew."""
    above, start, rest = text.partition(START)
    _, end, below = rest.partition(END)
    if not start or not end:
        raise ValueError(f"{PAGE.name} has no marks for the results")
    return f"{above}{start}\n{table(results)}\n\n{end}{below}"


def table(results: list[dict[str, Any]]) -> str:
    """One row per set, embedder and system, in that order."""
    if not results:
        return "No results are kept yet: `bench/recall/measure.py --out` writes them."
    return "\n".join([*_HEAD, *map(_row, sorted(results, key=_place))])


def kept() -> list[dict[str, Any]]:
    """Every kept result; each file holds a list of them."""
    files = sorted(RESULTS.glob(FILES))
    return [result for path in files for result in json.loads(path.read_text("utf-8"))]


def write() -> None:
    """Make the table anew."""
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8"), kept()), encoding="utf-8")


def _row(result: dict[str, Any]) -> str:
    main, (low, high) = result["main"], result["ci_R@10"]
    cells = [
        _SETS.get(result["data"], result["data"]),
        _EMBEDDERS.get(result["embedder"], result["embedder"]),
        _SYSTEMS.get(_system(result), _system(result)) + _ENGINES[result.get("engine", "file")],
        f"{result['n']:,}",
        _share(main["R@5"]),
        _share(main["R@10"]),
        f"{_share(low)} to {_share(high)}",
        _gap(result.get("paired", {}).get("R@10")),
        _share(main["nDCG@10"]),
        f"{result['search_ms_median']:.1f}",
    ]
    return f"| {' | '.join(cells)} |"


def _place(result: dict[str, Any]) -> tuple[int, int, int, str]:
    return (
        _rank(_SETS, result["data"]),
        _rank(_EMBEDDERS, result["embedder"]),
        _rank(_SYSTEMS, _system(result)),
        result.get("engine", "file"),
    )


def _rank(known: dict[str, str], name: str) -> int:
    return list(known).index(name) if name in known else len(known)


def _system(result: dict[str, Any]) -> str:
    system: str = result["system"]
    return system.partition("/")[0]


def _gap(paired: list[float] | None) -> str:
    """A difference and the 95 % interval of it over the same questions."""
    if paired is None:
        return ""
    gap, low, high = (f"{value:+.3f}".replace("0.", ".", 1) for value in paired)
    return f"{gap} ({low} to {high})"


def _share(value: float) -> str:
    return f"{value:.3f}".removeprefix("0")
