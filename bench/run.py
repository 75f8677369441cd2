"""Every figure beside its peer: python -m bench.run [--only NAME] [--quick] [--json].

Raw results go to bench/results, one JSON file a sheet, and docs/performance.md is made from them.
With --quick nothing is kept: the figures mean nothing, the rows only show that everything runs.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import apsw

from bench import checkpoints, peers, postgres, postgres_search, report, start
from bench.loop import Loop
from bench.measure import Sheet, measure
from bench.reads import Reads
from bench.search.hybrid import HybridSheet
from bench.search.talk import TalkSheet
from bench.search.texts import TextSheet
from bench.search.vectors import VectorSheet
from bench.single import Single
from bench.slow_disk import SlowWrites
from bench.systems import Systems
from bench.writes import Writes

Make = Callable[[bool], Sheet]

SHEETS: Final[dict[str, Make]] = {
    "single-full": lambda quick: Single("full", quick=quick).sheet(1 if quick else 5),
    "single-normal": lambda quick: Single("normal", quick=quick).sheet(1 if quick else 3),
    "writes-full": lambda quick: Writes("full", quick=quick).sheet(1 if quick else 5),
    "writes-normal": lambda quick: Writes("normal", quick=quick).sheet(1 if quick else 3),
    "writes-reference-disk": lambda quick: SlowWrites("reference", quick=quick).sheet(
        1 if quick else 5
    ),
    "writes-slow-disk": lambda quick: SlowWrites("slow", quick=quick).sheet(1 if quick else 3),
    "point-get": lambda quick: Reads(quick=quick).points(1 if quick else 5),
    "loop": lambda quick: Loop(quick=quick).sheet(1 if quick else 3),
    "page": lambda quick: Reads(quick=quick).pages(1 if quick else 5),
    "postgres-shapes": lambda quick: postgres.sheet(1 if quick else 7, quick=quick),
    "postgres-search-100k": lambda quick: postgres_search.sheet(100_000, quick=quick),
    "postgres-search-10k": lambda quick: postgres_search.sheet(10_000, quick=quick),
    "postgres-tenants-1k": lambda quick: postgres_search.flat_sheet(1_000, quick=quick),
    "postgres-tenants-10k": lambda quick: postgres_search.flat_sheet(10_000, quick=quick),
    "checkpoints-sqlite": lambda quick: checkpoints.sqlite_sheet(1 if quick else 3, quick=quick),
    "checkpoints-postgres": lambda quick: checkpoints.postgres_sheet(
        1 if quick else 3, quick=quick
    ),
    "checkpoints-postgres-10k": lambda quick: checkpoints.history_sheet(
        1 if quick else 2, quick=quick
    ),
    "start": lambda quick: start.sheet(1 if quick else 5),
    "systems": lambda quick: Systems(quick=quick).sheet(1 if quick else 2),
    "search-talk-1k": lambda quick: TalkSheet(quick=quick).sheet(1 if quick else 3),
    "search-vectors-10k": lambda quick: VectorSheet(10_000, quick=quick).sheet(),
    "search-vectors-100k": lambda quick: VectorSheet(100_000, quick=quick).sheet(),
    "search-text-100k": lambda quick: TextSheet(100_000, quick=quick).sheet(),
    "search-hybrid-100k": lambda quick: HybridSheet(100_000, quick=quick).sheet(),
    "search-vectors-1000k": lambda quick: VectorSheet(1_000_000, quick=quick).sheet(),
}
ON_REQUEST: Final = ("search-vectors-1000k", "postgres-tenants-10k")
"""Sheets that take long, and run only where their whole name is given."""


def main(arguments: list[str] | None = None) -> int:
    """Measure the sheets whose name begins with one of --only; all of them without it."""
    options = _options(arguments)
    chosen = [
        name
        for name in SHEETS
        if name in (options.only or ())
        or (
            name not in ON_REQUEST
            and (not options.only or any(name.startswith(prefix) for prefix in options.only))
        )
    ]
    if not chosen:
        print(f"There is no such sheet; there are {', '.join(SHEETS)}.", file=sys.stderr)
        return 2
    if not options.quick:
        peers.provide(large=options.peers)
    options.folder.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="run-", dir=options.folder))
    results = []
    try:
        for name in chosen:
            result = measure(SHEETS[name](options.quick), folder, _say)
            result |= {"at": datetime.now(UTC).isoformat(timespec="seconds"), "on": machine()}
            results.append(result)
            if not options.quick:
                report.keep(result)
            if not options.json:
                print("\n".join(report.table(result)), flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if options.json:
        print(json.dumps(results))
    if not options.quick:
        report.write()
    return 0


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    return {
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "sqlite": apsw.sqlite_lib_version(),
        "system": platform.system(),
    }


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench.run", description=__doc__)
    parser.add_argument("--only", action="append", metavar="NAME", help=", ".join(SHEETS))
    parser.add_argument("--quick", action="store_true", help="one tiny round, nothing kept")
    parser.add_argument("--json", action="store_true", help="raw results instead of tables")
    parser.add_argument("--peers", action="store_true", help="install the large peers too")
    parser.add_argument(
        "--folder",
        type=Path,
        default=peers.ROOT / ".cache" / "bench",
        help="where files are made: the disk that is measured",
    )
    return parser.parse_args(arguments)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
