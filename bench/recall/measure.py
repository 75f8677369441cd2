"""Run the recall harness over the pieces of holdfast.recall, our own embedders included.

    RECALL_BENCH=<folder of the harness> python bench/recall/measure.py --embedder minilm-int8

The harness and its data are not ours to ship; it is found by the variable. Prints one line per
system: the share of evidence turns among the first five and ten, with the interval of ten.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SYSTEMS = {
    "Stored": "stored.py",
    "StoredLate": "stored.py",
    "StoredRrf": "stored.py",
    "Plain": "plain.py",
    "RecipeWithRrf": "plain.py",
    "Convex": "plain.py",
    "Rrf": "plain.py",
}


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
    parser.add_argument("--data", default="locomo_public,beam100k_public")
    parser.add_argument("--system", action="append", help=f"one of {', '.join(SYSTEMS)}")
    parser.add_argument("--out", help="a file for the results as JSON")
    arguments = parser.parse_args()
    kept: list[dict[str, Any]] = []
    answers: dict[tuple[str, str], list[float]] = {}
    for data in arguments.data.split(","):
        for system in arguments.system or SYSTEMS:
            path = HERE / SYSTEMS[system]
            result, rows = run.evaluate(
                f"{path}:{system}", data, "public", arguments.embedder, quiet=True
            )
            result["system"] = f"{system}/{arguments.embedder}"
            print(run.line(result), flush=True)
            kept.append(result)
            answers[data, system] = [row["R@10"] for row in rows if _counts(run, data, row)]
            _print_difference(recall_lib, answers, data, system)
    if arguments.out:
        Path(arguments.out).write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n")


def _counts(run: Any, data: str, row: dict[str, Any]) -> bool:
    return row["cat"] not in run.NOT_MAIN.get(data, ())


def _print_difference(
    recall_lib: Any, answers: dict[tuple[str, str], list[float]], data: str, system: str
) -> None:
    """The paired interval of the first system's lead over this one."""
    first = next(name for known, name in answers if known == data)
    if system != first:
        low, high = recall_lib.bootstrap_ci(answers[data, first], answers[data, system])
        print(f"  {first} - {system}: R@10 difference in [{low:+.3f}, {high:+.3f}]", flush=True)


if __name__ == "__main__":
    main()
