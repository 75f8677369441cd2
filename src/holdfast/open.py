"""Opening a store by URL or path."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Literal

from holdfast.core.clock import CheckedClock, Clock, Ids, SystemClock, Uuid7Ids
from holdfast.core.embedding import LateReader
from holdfast.core.errors import Invalid, kind_of
from holdfast.core.extras import lacking
from holdfast.core.runtime import Runtime
from holdfast.core.scope import Scope
from holdfast.core.values import check_bool, check_seconds, check_text
from holdfast.layers.check import Checked
from holdfast.storage import Storage, all_collections
from holdfast.stores.given import check_verbs

if TYPE_CHECKING:
    from holdfast.core.driver import Driver
    from holdfast.core.embedding import Embedder, Reranker
    from holdfast.core.observe import Sink
    from holdfast.core.ranker import Ranker

EmbedderName = Literal["hash", "minilm", "minilm32", "static"]
"""Built-in models: "hash" needs nothing, "minilm" the extra `local`, "minilm32" the extra `local32`
and the weights, "static" the extra `static`. None of them needs a network."""


IN_MEMORY: Final = ("memory:", ":memory:", "sqlite:///:memory:")


def open(
    url: str | os.PathLike[str],
    *,
    tenant: str = "default",
    agent: str | None = None,
    user: str | None = None,
    namespace: str | None = None,
    embedder: Embedder | EmbedderName | None = "hash",
    embed_seconds: float | None = 5.0,
    reranker: Reranker | LateReader | Literal["late"] | None = None,
    ranker: Ranker | None = None,
    durability: Literal["full", "normal"] | None = None,
    busy_seconds: float | None = None,
    clock: Clock | None = None,
    ids: Ids | None = None,
    observe: Sink | None = None,
    setup: bool = True,
    options: Mapping[str, Any] | None = None,
) -> Storage:
    """Open a store: a path or ``sqlite:///path`` for a file, ``postgresql://`` or ``supabase://``.

    ``memory:`` keeps it in this process, for tests.

    The handle is bound to ``tenant`` and to what else is named. ``embedder`` is a built-in's
    name, an object, or None for keyword recall alone; ``ranker`` is the recipe unless given.
    ``embed_seconds`` is how long an object's answer is waited for, per 20 texts: a memory is then
    kept without a vector and queued for repair. None is no limit; built-ins have none.
    ``reranker`` "late" compares token by token with MiniLM, the embedder's own or one beside it.
    For a file, ``durability`` "full" (the default) syncs every commit, "normal" may lose the
    last ones in a power cut, and ``busy_seconds`` (10) bounds the wait for another process's
    write. ``observe`` is told of every call's count, time and error code, and never of content.
    ``setup`` creates or upgrades tables; without it they must be there, else Unavailable.
    ``options`` are those of the engine by name. Of a file: ``search_cache_bytes`` bounds what
    searches keep in memory (256 MiB), ``tail_rows`` (1,000) and ``segment_rows`` (65,536) when and
    how far rows are packed for them; ``immutable`` True reads a store that was closed and to which
    nobody writes, as on a read-only disk. Of PostgreSQL, also in its URL's query: ``schema``,
    ``pool_size`` and ``pool_timeout_seconds``, ``connect_timeout_seconds``,
    ``statement_timeout_seconds``, ``lock_timeout_seconds``, ``prepare``, ``replica``,
    ``read_your_writes``.

    Raises Invalid, SchemaNewer, Corrupt, Busy, Unavailable; Unsupported names a missing extra.
    """
    check_bool("setup", setup)
    if embed_seconds is not None:
        check_seconds("embed_seconds", embed_seconds, 1e-9, 86_400.0)
    check_verbs("observe", observe, "operation")
    runtime = _runtime(clock, ids, embedder, embed_seconds, reranker, ranker)
    scope = Scope(tenant=tenant, agent=agent, user=user, namespace=namespace)
    engine = open_driver(
        url, runtime.clock, durability=durability, busy_seconds=busy_seconds, options=options
    )
    driver = _layered(engine, observe)
    try:
        driver.setup(all_collections(), create=setup)
    except BaseException:
        driver.close()
        raise
    return Storage(driver, scope, runtime)


def _runtime(
    clock: Clock | None,
    ids: Ids | None,
    embedder: Embedder | str | None,
    embed_seconds: float | None,
    reranker: Reranker | LateReader | str | None,
    ranker: Ranker | None,
) -> Runtime:
    """What stores work with besides the driver: the caller's parts, or the usual ones."""
    from holdfast.recall.recipe import Recipe

    given = None if isinstance(embedder, str) else embedder
    reader = None if reranker == "late" else reranker
    check_verbs("embedder", given, "embed")
    check_verbs("reranker", reader, "score" if isinstance(reader, LateReader) else "rerank")
    check_verbs("ranker", ranker, "rank")
    check_verbs("clock", clock, "now")
    if clock is not None:
        clock = CheckedClock(clock)
        clock.now()
    check_verbs("ids", ids, "new")
    model = _embedder(embedder)
    late, reranker = _readers(reranker, model)
    return Runtime(
        clock=clock or SystemClock(),
        ids=ids or Uuid7Ids(),
        embedder=model if given is None else _timed(model, embed_seconds),
        reranker=reranker,
        late=late,
        ranker=ranker or Recipe(),
    )


def open_driver(
    url: str | os.PathLike[str],
    clock: Clock,
    *,
    durability: Literal["full", "normal"] | None = None,
    busy_seconds: float | None = None,
    options: Mapping[str, Any] | None = None,
) -> Driver:
    """The engine behind a URL, not set up yet. Other packages add schemes by entry point."""
    url = url_of(url)
    if not isinstance(url, str) or not url:
        raise Invalid("url", expected="a path or URL", got=kind_of(url))
    check_text("url", url)
    if isinstance(busy_seconds, bool) or not isinstance(busy_seconds, int | float | None):
        raise Invalid("busy_seconds", expected="seconds from 0", got=kind_of(busy_seconds))
    if options is not None and not isinstance(options, Mapping):
        raise Invalid("options", expected="an object of names and values", got=kind_of(options))
    scheme = url.partition(":")[0]
    if scheme.partition("+")[0] in ("postgresql", "postgres", "supabase"):
        return _postgres(url, clock, durability, busy_seconds, options)
    path = file_of(url)
    if path is not None:
        from holdfast.backends.sqlite import SqliteDriver

        if path != url and "?" in path:
            raise Invalid("url", expected="a path alone; options are arguments", got="a query")
        if not path or os.path.isdir(path):
            raise Invalid("url", expected="the path of a file", got="a directory")
        return SqliteDriver(
            path,
            clock,
            durability="full" if durability is None else durability,
            busy_seconds=10.0 if busy_seconds is None else busy_seconds,
            **_file_options(options or {}),
        )
    if options:
        raise Invalid("options", expected="a store in a file or in PostgreSQL", got=f"{scheme}:")
    for name, value in (("durability", durability), ("busy_seconds", busy_seconds)):
        if value is not None:
            raise Invalid(name, expected="a store in a file", got=f"{scheme}:")
    if url in IN_MEMORY:
        from holdfast.backends.memory import MemoryDriver

        return MemoryDriver(clock)
    from importlib.metadata import entry_points  # 20 ms that most processes need not spend

    for entry in entry_points(group="holdfast.backends", name=scheme):
        driver: Driver = entry.load()(url, clock)
        return driver
    raise Invalid("url", expected="a path, sqlite:, memory: or an installed scheme", got=scheme)


def url_of(url: str | os.PathLike[str]) -> str:
    """What was given as a URL; a path object whole, so that no name of a file is read as one."""
    return os.path.abspath(url) if isinstance(url, os.PathLike) else url


def file_of(url: str) -> str | None:
    """The file that a URL or path names; None for a store that is no file."""
    scheme, separator, rest = url.partition(":")
    if url in IN_MEMORY:
        return None
    if not separator or len(scheme) == 1 or "/" in scheme:  # a drive, or a colon in a folder's name
        return url
    if scheme.partition("+")[0] == "sqlite":
        return rest.removeprefix("//").removeprefix("/")
    return None


def _layered(engine: Driver, observe: Sink | None) -> Driver:
    """The engine below its checks; told of to ``observe``, and left alone while it is gone."""
    if engine.patience is not None:
        from holdfast.layers.breaker import Breaker

        engine = Breaker(engine, engine.patience)
    checked = Checked(engine)
    if observe is None:
        return checked
    from holdfast.layers.observe import Observed

    return Observed(checked, observe)


def _file_options(options: Mapping[str, Any]) -> dict[str, Any]:
    known = ("search_cache_bytes", "tail_rows", "segment_rows", "immutable")
    for name in options:
        if name not in known:
            raise Invalid("options", expected=f"any of {', '.join(known)}", got=repr(name))
    return dict(options)


def _postgres(
    url: str,
    clock: Clock,
    durability: Literal["full", "normal"] | None,
    busy_seconds: float | None,
    options: Mapping[str, Any] | None,
) -> Driver:
    if busy_seconds is not None:
        raise Invalid(
            "busy_seconds",
            expected="a store in a file",
            got="postgresql:",
            hint="Use the option lock_timeout_seconds.",
        )
    try:
        from holdfast.backends.postgres import PostgresDriver
    except ImportError as error:
        raise lacking("PostgreSQL needs the extra postgres.", "postgres") from error
    chosen = "full" if durability is None else durability
    return PostgresDriver(url, clock, durability=chosen, options=options)


def _readers(
    choice: Reranker | LateReader | str | None, embedder: Embedder | None
) -> tuple[LateReader | None, Reranker | None]:
    """The late reader, whose scores are blended, and the reranker, whose order stands."""
    if isinstance(choice, str):
        from holdfast.recall.late import LateInteraction
        from holdfast.recall.local import MiniLM

        return LateInteraction(embedder if isinstance(embedder, MiniLM) else None), None
    return (choice, None) if isinstance(choice, LateReader) else (None, choice)


def _timed(embedder: Embedder | None, seconds: float | None) -> Embedder | None:
    if embedder is None or seconds is None:
        return embedder
    from holdfast.recall.deadline import TimedEmbedder

    return TimedEmbedder(embedder, seconds)


def _embedder(choice: Embedder | str | None) -> Embedder | None:
    if not isinstance(choice, str):
        return choice
    if choice == "hash":
        from holdfast.recall.embedders import HashEmbedder

        return HashEmbedder()
    from holdfast.recall import local

    if choice == "minilm":
        return local.MiniLMEmbedder()
    if choice == "minilm32":
        return local.MiniLM32Embedder()
    if choice == "static":
        return local.WordLlamaEmbedder()
    expected = '"hash", "minilm", "minilm32", "static" or an Embedder'
    raise Invalid("embedder", expected=expected, got=choice)
