"""A store opened by a process that has never seen it: its first answer, and what it then holds."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy

from bench import peers
from bench.measure import Figures

if TYPE_CHECKING:
    from bench.search.vector_peers import VectorStore

SEARCHES: Final = 100
_MIB: Final = 1024


def measured(store: type[VectorStore], folder: Path, queries: Any) -> Figures:
    """What a new process saw of the store in this folder."""
    asked = folder / "queries.npy"
    numpy.save(asked, queries)
    command = [sys.executable, "-m", "bench.search.cold", store.__name__, str(folder), str(asked)]
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, cwd=peers.ROOT, env=os.environ.copy()
    )
    if done.returncode:
        raise RuntimeError(f"{store.name} did not open: {done.stderr.strip()[-400:]}")
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    return figures


def main(arguments: list[str]) -> None:
    """Open, search, tell."""
    name, folder, asked = arguments
    peers.reach()
    stores = importlib.import_module("bench.search.vector_peers")
    kind = getattr(stores, name)
    queries = numpy.load(asked)
    if kind.module:
        importlib.import_module(kind.module)
    held = _private_kib()
    began = time.perf_counter()
    store = kind(Path(folder))
    store.open()
    store.search(queries[0], "")
    taken = (time.perf_counter() - began) * 1e3
    for number in range(SEARCHES):
        store.search(queries[number % len(queries)], "")
    used = _private_kib() - held
    store.close()
    print(json.dumps({"cold ms": taken, "MiB": max(0.0, used / _MIB)}))


def _private_kib() -> float:
    """Memory that no file stands for; 0 where the system does not tell."""
    try:
        text = Path("/proc/self/status").read_text("ascii")
    except OSError:
        return 0.0
    return float(text.partition("RssAnon:")[2].split()[0])


if __name__ == "__main__":
    main(sys.argv[1:])
