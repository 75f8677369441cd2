"""Opening a store by URL or path."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from holdfast.core.clock import Clock, Ids, SystemClock, Uuid7Ids
from holdfast.core.errors import Invalid
from holdfast.core.runtime import Runtime
from holdfast.core.scope import Scope
from holdfast.layers.check import Checked
from holdfast.storage import Storage, all_collections

if TYPE_CHECKING:
    from holdfast.core.driver import Driver
    from holdfast.core.embedding import Embedder, Reranker


def open(
    url: str,
    *,
    tenant: str = "default",
    agent: str | None = None,
    user: str | None = None,
    namespace: str | None = None,
    clock: Clock | None = None,
    ids: Ids | None = None,
    embedder: Embedder | None = None,
    reranker: Reranker | None = None,
    setup: bool = True,
) -> Storage:
    """Open a store: a path or ``sqlite:///path`` for one file, ``memory:`` for none.

    The handle is bound to ``tenant`` and to what else is named. ``setup`` creates or upgrades
    tables. Raises SchemaNewer, Corrupt, Busy, Unavailable, Invalid.
    """
    scope = Scope(tenant=tenant, agent=agent, user=user, namespace=namespace)
    clock = clock or SystemClock()
    runtime = Runtime(clock=clock, ids=ids or Uuid7Ids(), embedder=embedder, reranker=reranker)
    driver = Checked(open_driver(url, clock))
    if setup:
        driver.setup(all_collections())
    return Storage(driver, scope, runtime)


def open_driver(url: str, clock: Clock) -> Driver:
    """The engine behind a URL, not set up yet. Other packages add schemes by entry point."""
    if not isinstance(url, str) or not url:
        raise Invalid("url", expected="a path or URL", got=url)
    scheme, separator, rest = url.partition(":")
    if url == "memory:":
        from holdfast.backends.memory import MemoryDriver

        return MemoryDriver(clock)
    if not separator or scheme == "sqlite" or len(scheme) == 1 or url == ":memory:":
        from holdfast.backends.sqlite import SqliteDriver

        return SqliteDriver(
            rest.removeprefix("//").removeprefix("/") if scheme == "sqlite" else url
        )
    found = entry_points(group="holdfast.backends", name=scheme)
    for entry in found:
        driver: Driver = entry.load()(url, clock)
        return driver
    raise Invalid("url", expected="a path, sqlite:, memory: or an installed scheme", got=scheme)
