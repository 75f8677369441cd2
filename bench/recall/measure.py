"""Run the recall harness over the pieces of holdfast.recall, our own embedders included.

    export RECALL_BENCH=<folder of the harness>
    make bench-recall ARGS="--embedder minilm-int8"
    make bench-recall ARGS="--folder held-back --embedder minilm --system Stored"
    make bench-recall ARGS="--url postgresql://... --system Stored"

The harness and its data are not ours to ship; it is found by the variable. With ``--folder`` other
conversations in its format are measured, every .json.gz in it and every conversation. With
``--url`` the store is there and not in a file, so that two engines can be compared.

Prints one line per system: the share of evidence turns among the first five and ten, with the
interval of ten; and below it the paired interval of its difference from the first system.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

HERE = Path(__file__).parent
SYSTEMS = {
    "Stored": "stored.py",
    "StoredLate": "stored.py",
    "Messages": "stored.py",
    "StoredRrf": "stored.py",
    "Plain": "plain.py",
    "RecipeWithRrf": "plain.py",
    "Convex": "plain.py",
    "Rrf": "plain.py",
}

PAIRED = ("R@5", "R@10", "nDCG@10")


def _embedder(name: str) -> Any:
    from holdfast.recall.embedders import HashEmbedder
    from holdfast.recall.local import MiniLMEmbedder, WordLlamaEmbedder

    return {
        "hashed": HashEmbedder,
        "minilm-int8": MiniLMEmbedder,
        "wordllama-ours": WordLlamaEmbedder,
    }[name]()


def _adapted(name: str, base: type) -> type:
    """Give one of our embedders the face that the harness knows, with its cache on disk."""

    class Adapted(base):  # type: ignore[misc]
        _model: Any = None

        def __init__(self, *, cache: bool = True) -> None:
            if Adapted._model is None:
                Adapted._model = _embedder(name)
            space = Adapted._model.space
            self.name = "holdfast-" + space.id.replace("/", "-").replace("@", "-")
            self.dim = space.width
            super().__init__(cache=cache and name == "minilm-int8")

        def _encode(self, texts: list[str]) -> Any:
            return Adapted._model.embed(list(texts))

    return Adapted


def main() -> None:
    """Measure the named systems."""
    sys.path.insert(0, os.environ["RECALL_BENCH"])
    import recall_lib  # type: ignore[import-not-found]
    import run  # type: ignore[import-not-found]

    ours = ("hashed", "minilm-int8", "wordllama-ours")
    for name in ours:
        recall_lib.EMBEDDERS[name] = _adapted(name, recall_lib._Cached)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--embedder", default="hashed", choices=list(recall_lib.EMBEDDERS))
    parser.add_argument("--data", help="sets by name; both public ones, or all of the folder")
    parser.add_argument("--folder", type=Path, help="of sets in the harness's format")
    parser.add_argument("--split", help="of the conversations; public, or all of a folder")
    parser.add_argument("--url", help="where the store is to be instead of a file")
    parser.add_argument("--system", action="append", help=f"one of {', '.join(SYSTEMS)}")
    parser.add_argument("--out", help="a file for the results as JSON")
    arguments = parser.parse_args()
    # Of the processor: what else the machine does meanwhile is none of ours.
    run.time = recall_lib.time = SimpleNamespace(perf_counter=time.process_time)
    if arguments.url:
        os.environ["HOLDFAST_BENCH_URL"] = arguments.url
    kept: list[dict[str, Any]] = []
    for data in _sets(run, arguments):
        first: dict[str, list[float]] = {}
        leader = ""
        for system in arguments.system or SYSTEMS:
            result, rows = run.evaluate(
                f"{HERE / SYSTEMS[system]}:{system}",
                data,
                arguments.split or ("all" if arguments.folder else "public"),
                arguments.embedder,
                quiet=True,
            )
            result["system"] = f"{system}/{arguments.embedder}"
            result["engine"] = _engine(arguments.url)
            print(run.line(result), flush=True)
            answers = _answers(run, data, rows)
            if not first:
                first, leader = answers, system
            else:
                result["paired"] = _paired(recall_lib, answers, first)
                _print_paired(result["paired"], leader)
            kept.append(result)
    if arguments.out:
        Path(arguments.out).write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n")


def _engine(url: str | None) -> str:
    """What keeps the turns; a URL itself names a host and may name a password."""
    return "postgresql" if url and url.startswith("postgresql") else "file"


def _sets(run: Any, arguments: argparse.Namespace) -> list[str]:
    """The names of the sets; those of a folder are put before the harness's own."""
    folder: Path | None = arguments.folder
    if folder is None:
        return (arguments.data or "locomo_public,beam100k_public").split(",")

    def load(name: str) -> Any:
        with gzip.open(folder / f"{name}.json.gz", "rt", encoding="utf-8") as file:
            return json.load(file)

    run.load_set = load
    named = arguments.data.split(",") if arguments.data else []
    names = named or sorted(path.name.removesuffix(".json.gz") for path in folder.glob("*.json.gz"))
    for name in names:  # categories that are not counted are known by the set's family
        for family in ("locomo", "beam100k"):
            if name.startswith(family.removesuffix("100k")):
                run.NOT_MAIN.setdefault(name, run.NOT_MAIN[family])
    return names


def _answers(run: Any, data: str, rows: list[dict[str, Any]]) -> dict[str, list[float]]:
    """Each question's figures, in one order for all systems."""
    left = run.NOT_MAIN.get(data, ())
    counted = [row for row in rows if row["cat"] not in left]
    return {name: [row[name] for row in counted] for name in PAIRED}


def _paired(
    recall_lib: Any, mine: dict[str, list[float]], first: dict[str, list[float]]
) -> dict[str, list[float]]:
    """The difference from the first system, and its interval over the same questions."""
    return {
        name: [
            round(sum(mine[name]) / len(mine[name]) - sum(first[name]) / len(first[name]), 4),
            *(round(end, 4) for end in recall_lib.bootstrap_ci(mine[name], first[name])),
        ]
        for name in PAIRED
    }


def _print_paired(paired: dict[str, list[float]], leader: str) -> None:
    told = (
        f"{name} {gap:+.3f} [{low:+.3f},{high:+.3f}]" for name, (gap, low, high) in paired.items()
    )
    print(f"  beside {leader}, paired: {', '.join(told)}", flush=True)


if __name__ == "__main__":
    main()
