"""`holdfast maintain`: a store's upkeep, beside whoever uses it."""

from __future__ import annotations

from typing import Any, get_args

import click

from holdfast.cli import output
from holdfast.cli.command import Leaf, check_there, settings
from holdfast.core.driver import Report, Task

TASKS = ("analyze", "vacuum", "reindex", "integrity", "sweep")
assert set(TASKS) < set(get_args(Task))


@click.command(cls=Leaf, short_help="Keep a store sound and fast.")
@click.argument("task", type=click.Choice(TASKS))
def maintain(task: Task) -> int:
    """Run one task on the whole store while others use it, and print what came of it.

    analyze refreshes what the query planner knows, vacuum makes unused space usable, reindex builds
    every index anew, integrity reads every record and compares what is derived from it, sweep
    deletes what has expired. On PostgreSQL the first three need the owner of the tables. The exit
    status is 1 when something was found, or was not done.
    """
    from holdfast.core.clock import SystemClock
    from holdfast.layers.check import Checked
    from holdfast.open import open_driver
    from holdfast.storage import all_collections

    held, clock = settings(), SystemClock()
    check_there(held.path)
    driver = Checked(open_driver(held.store, clock))
    try:
        driver.setup(all_collections())
        options: dict[str, Any] = {"now": clock.now()} if task == "sweep" else {}
        report: Report = driver.maintain(task, **options)
    finally:
        driver.close()
    counts = {name: count for name, count in report.counts.items() if count}
    told = {"task": task, "ok": report.ok, "counts": counts, "findings": report.findings}
    output.one(told, tuple(told))
    return 0 if report.ok else 1
