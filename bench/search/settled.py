"""Search data as it is some time after a load: packed, as the first searches ask for it."""

from __future__ import annotations

from holdfast.backends.sql.dialect import quoted
from holdfast.backends.sqlite import SqliteDriver, upkeep
from holdfast.core.driver import Driver
from holdfast.layers.layer import Layer


def settle(driver: Driver) -> None:
    """Merge all that is due; unlike `maintain("reindex")` this makes nothing anew that is there."""
    while isinstance(driver, Layer):
        driver = driver.below
    assert isinstance(driver, SqliteDriver)
    with driver._pool.reading() as connection:
        due = [
            (source, tenant)
            for source, _ in upkeep.sources(driver._planner)
            for (tenant,) in connection.execute(f"SELECT DISTINCT tenant FROM {quoted(source)}")
        ]
    for source, tenant in due:
        driver._merger.run(source, tenant)
