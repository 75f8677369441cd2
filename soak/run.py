"""Run campaigns, show a row for each, and keep their results: `make soak`, or python -m soak.run.

A campaign whose count is 0 is left out. The exit status is 0 when nothing was found and every
saboteur was caught.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from soak import (
    agreement,
    faults,
    growth,
    kills,
    merges,
    opens,
    pauses,
    pg_cuts,
    pg_full,
    pg_kills,
    pg_matrix,
    pg_patroni,
    pg_pooled,
    pg_tenants,
    power,
    strings,
)
from soak.campaign import RESULTS, Result, Tick, save

TENTHS: Final = 10


def main(arguments: list[str]) -> int:
    """Parse, run, print, save."""
    options = _parser().parse_args(arguments)
    campaigns: tuple[tuple[str, int, Callable[..., Result]], ...] = (
        ("kills", options.kills, kills.run),
        ("opens", options.opens, opens.run),
        ("strings", options.strings, strings.run),
        ("power", options.power_cuts, partial(power.run, cuts_per_run=options.cuts_per_run)),
        ("faults", options.faults, faults.run),
        ("pauses", options.pauses, pauses.run),
        ("growth", options.log_mib, growth.run),
        ("pg-kills", options.pg_kills, pg_kills.run),
        ("pg-cuts", options.pg_cuts, pg_cuts.run),
        ("pg-tenants", options.pg_tenants, pg_tenants.run),
        ("pg-pooled", options.pg_pooled, pg_pooled.run),
        ("pg-matrix", options.pg_matrix, partial(pg_matrix.run, only=options.matrix_cases)),
        ("pg-patroni", options.pg_patroni, pg_patroni.run),
        ("pg-full", options.pg_full, pg_full.run),
        ("merges", options.merge_kills, merges.run),
        ("agreement", options.agreement_seconds, agreement.run),
    )
    results = []
    for name, count, run in campaigns:
        if count < 1:
            continue
        with _progress(name, count) as tick:
            result = run(count, seed=options.seed, tick=tick)
        save(result, options.results)
        results.append(result)
    _show(results, as_json=options.json)
    return 0 if results and all(result.ok for result in results) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m soak.run", description=__doc__)
    counts = (
        ("--kills", "kill -9 cycles"),
        ("--opens", "rounds of eight processes opening one file at once"),
        ("--strings", "hostile search strings"),
        ("--power-cuts", "simulated power cuts at durability full"),
        ("--faults", "rounds of injected disk errors"),
        ("--pauses", "writers frozen in a transaction"),
        ("--log-mib", "MiB written while the log's size is watched"),
        ("--pg-kills", "kill -9 cycles of a whole PostgreSQL cluster"),
        ("--pg-cuts", "links to PostgreSQL cut, also between COMMIT and its answer"),
        ("--pg-tenants", "attempts on other tenants' records in PostgreSQL"),
        ("--pg-pooled", "queries of many tenants through PgBouncer"),
        ("--pg-matrix", "builds of PostgreSQL, from the oldest on, under the whole suite"),
        ("--pg-patroni", "kill -9 of the leader of three nodes under Patroni"),
        ("--pg-full", "times that a disk of PostgreSQL's fills up; needs root, to mount it"),
        ("--merge-kills", "kill -9 while the search index is merged"),
        ("--agreement-seconds", "seconds of recall beside a writer, against full scans"),
    )
    for name, meaning in counts:
        parser.add_argument(name, type=int, default=0, metavar="N", help=meaning)
    parser.add_argument("--cuts-per-run", type=int, default=power.CUTS_PER_RUN, metavar="N")
    parser.add_argument(
        "--matrix-cases", default="", metavar="EXPR", help="only these of the suite, as pytest -k"
    )
    parser.add_argument("--seed", type=int, default=1, help="the same seed draws the same trials")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the folder of results")
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    return parser


@contextmanager
def _progress(name: str, count: int) -> Iterator[Tick]:
    """A bar on a terminal, a line for each tenth elsewhere; both on standard error."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _lines(name, count)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console) as bar:
        task = bar.add_task(name, total=count)
        yield lambda done: bar.update(task, completed=done)


def _lines(name: str, count: int) -> Tick:
    told = 0

    def tick(done: int) -> None:
        nonlocal told
        if done == count or done * TENTHS // count > told:
            told = done * TENTHS // count
            print(f"{name}: {done} of {count}", file=sys.stderr, flush=True)

    return tick


def _show(results: list[Result], *, as_json: bool) -> None:
    if as_json:
        rows = [msgspec.to_builtins(result) | {"ok": result.ok} for result in results]
        print(msgspec.json.format(msgspec.json.encode(rows), indent=2).decode())
        return
    table = Table("campaign", "trials", "findings", "saboteurs caught", "seconds", "")
    for result in results:
        caught = sum(saboteur.caught for saboteur in result.saboteurs)
        table.add_row(
            f"{result.campaign}: {result.trial}",
            str(result.trials),
            str(result.findings),
            f"{caught} of {len(result.saboteurs)}",
            str(result.seconds),
            "ok" if result.ok else "FAILED",
        )
    Console().print(table)
    for result in results:
        for example in result.examples:
            print(f"{result.campaign}: {example}")


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
