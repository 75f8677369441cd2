"""What `holdfast doctor` looks at on PostgreSQL."""

from __future__ import annotations

from typing import Any

from holdfast.core.extras import lacking

LARGEST = 10
"""Tables that are listed by their size."""


def examined(url: str, role: str | None, advice: list[str]) -> dict[str, Any]:
    """Everything that can be told of the store; ``problems`` are what is wrong."""
    try:
        from holdfast.backends.postgres import PostgresDriver
    except ImportError as error:
        raise lacking("PostgreSQL needs the extra postgres.", "postgres") from error
    import psycopg

    from holdfast.cli.command import settings
    from holdfast.storage import all_collections

    driver = PostgresDriver(url)
    try:
        driver.setup(all_collections(), create=False)
        found = driver.diagnose(role=role)
    finally:
        driver.close()
    advice += found.advice
    facts = {"clients": {"psycopg": psycopg.__version__, "libpq": psycopg.pq.version()}}
    facts |= found.facts
    if settings().form not in ("json", "jsonl"):
        facts = _shortened(facts)
    return {**facts, "problems": found.problems}


def _shortened(facts: dict[str, Any]) -> dict[str, Any]:
    """For a person: the largest tables alone, and no list of what is as it should be."""
    tables = facts.get("tables", {})
    largest = dict(list(tables.items())[:LARGEST])
    plans = {name: told for name, told in facts.get("plans", {}).items() if name != "used"}
    orphans = {name: count for name, count in facts.get("orphans", {}).items() if count}
    shown = {**facts, "tables": largest, "plans": plans, "orphans": orphans}
    if not facts.get("journal"):
        shown["journal"] = ["nothing follows"]
    slow = facts.get("slow_queries")
    if isinstance(slow, str):
        shown["slow_queries"] = [slow]
    return shown
