"""Ways to keep the checkpoints of one thread: ours, LangGraph's, and a row per state by hand."""

from __future__ import annotations

import importlib
import sqlite3
import uuid
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import holdfast
from holdfast.stores.checkpoints import CheckpointPolicy


class Saver(Protocol):
    """One way to keep checkpoints of one thread."""

    def put(self, step: int, state: bytes) -> None:
        """Keep the state of a step."""

    def get(self, step: int) -> bytes:
        """The state of a step."""

    def latest(self) -> bytes:
        """The state of the last step."""

    def newest(self) -> int:
        """List the ten newest and say how many they are."""

    def size(self) -> int:
        """Bytes on disk; the last call."""

    def reopened(self) -> Saver:
        """The same by a new handle, which knows nothing of what was saved."""


# --- in a file


class RawFile:
    """A row per state, as a careful user would write it."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "raw.db"
        self._connection = sqlite3.connect(self._path, isolation_level=None)
        self._connection.executescript(
            "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;"
            "CREATE TABLE IF NOT EXISTS states (thread TEXT, step INTEGER, metadata TEXT,"
            " state BLOB, PRIMARY KEY (thread, step))"
        )

    def put(self, step: int, state: bytes) -> None:
        self._connection.execute("INSERT INTO states VALUES ('t', ?, '{}', ?)", (step, state))

    def get(self, step: int) -> bytes:
        found = self._connection.execute(
            "SELECT * FROM states WHERE thread='t' AND step=?", (step,)
        )
        state: bytes = found.fetchone()[3]
        return state

    def latest(self) -> bytes:
        text = "SELECT * FROM states WHERE thread='t' ORDER BY step DESC LIMIT 1"
        state: bytes = self._connection.execute(text).fetchone()[3]
        return state

    def newest(self) -> int:
        text = "SELECT thread, step, metadata FROM states WHERE thread='t'"
        return len(self._connection.execute(f"{text} ORDER BY step DESC LIMIT 10").fetchall())

    def reopened(self) -> RawFile:
        self._connection.close()
        return RawFile(self._path.parent)

    def size(self) -> int:
        self._connection.close()
        return self._path.stat().st_size


class _LangGraph:
    """What both of LangGraph's savers are given."""

    _saver: Any

    def put(self, step: int, state: bytes) -> None:
        base = importlib.import_module("langgraph.checkpoint.base")
        versions = {"state": f"{step:032}.0"}
        checkpoint = {
            **base.empty_checkpoint(),
            "id": _uuid(step),
            "channel_values": {"state": state},
            "channel_versions": versions,
        }
        parent = {"checkpoint_id": _uuid(step - 1)} if step else {}
        config = {"configurable": {"thread_id": "t", "checkpoint_ns": "", **parent}}
        metadata = {"source": "loop", "step": step, "parents": {}}
        self._saver.put(config, checkpoint, metadata, versions)

    def get(self, step: int) -> bytes:
        return self._got({"checkpoint_id": _uuid(step)})

    def latest(self) -> bytes:
        return self._got({})

    def newest(self) -> int:
        config = {"configurable": {"thread_id": "t", "checkpoint_ns": ""}}
        return len(list(self._saver.list(config, limit=10)))

    def _got(self, which: dict[str, str]) -> bytes:
        config = {"configurable": {"thread_id": "t", "checkpoint_ns": "", **which}}
        state: bytes = self._saver.get_tuple(config).checkpoint["channel_values"]["state"]
        return state


class LangGraphFile(_LangGraph):
    """langgraph-checkpoint-sqlite."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "langgraph.db"
        module = importlib.import_module("langgraph.checkpoint.sqlite")
        self._connection = sqlite3.connect(self._path, check_same_thread=False)
        self._saver = module.SqliteSaver(self._connection)
        self._saver.setup()

    def reopened(self) -> LangGraphFile:
        self._connection.close()
        return LangGraphFile(self._path.parent)

    def size(self) -> int:
        self._connection.close()
        return self._path.stat().st_size


class _Holdfast:
    """Our store, wherever it is."""

    _policy = CheckpointPolicy(keep=None)

    def __init__(self, storage: holdfast.Storage, ids: list[str] | None) -> None:
        self._storage = storage
        self._store = storage.checkpoints.configured(self._policy)
        self._ids = [] if ids is None else ids

    def put(self, step: int, state: bytes) -> None:
        self._ids.append(self._store.save(state, iteration=step, session_id="t").id)

    def get(self, step: int) -> bytes:
        found = self._store.load(self._ids[step])
        assert found is not None
        return found.state

    def latest(self) -> bytes:
        found = self._store.latest(session_id="t")
        assert found is not None
        return found.state

    def newest(self) -> int:
        return len(self._store.list(session_id="t", limit=10))


class HoldfastFile(_Holdfast):
    """Our store in a file."""

    _name = "holdfast.db"

    def __init__(self, folder: Path, ids: list[str] | None = None) -> None:
        self._path = folder / self._name
        super().__init__(holdfast.open(str(self._path), embedder=None), ids)

    def reopened(self) -> HoldfastFile:
        self._storage.close()
        return type(self)(self._path.parent, self._ids)

    def size(self) -> int:
        self._storage.close()
        return self._path.stat().st_size


class PackedFile(HoldfastFile):
    """The same, deflating."""

    _name = "packed.db"
    _policy = CheckpointPolicy(keep=None, compress=True)


# --- in PostgreSQL


class RawTable:
    """A row per state, as a careful user would write it."""

    def __init__(self, url: str) -> None:
        import psycopg

        self._url = url
        self._connection = psycopg.connect(url, autocommit=True, prepare_threshold=0)
        self._connection.execute(
            "CREATE TABLE IF NOT EXISTS states (thread text, step bigint, metadata jsonb,"
            " state bytea, PRIMARY KEY (thread, step))"
        )

    def put(self, step: int, state: bytes) -> None:
        self._connection.execute("INSERT INTO states VALUES ('t', %s, '{}', %b)", (step, state))

    def get(self, step: int) -> bytes:
        return self._got("AND step = %s", step)

    def latest(self) -> bytes:
        return self._got("ORDER BY step DESC LIMIT %s", 1)

    def newest(self) -> int:
        columns = "SELECT thread, step, metadata, length(state) FROM states"
        return len(self._ask(f"{columns} WHERE thread = 't' ORDER BY step DESC LIMIT %s", 10))

    def reopened(self) -> RawTable:
        self._connection.close()
        return RawTable(self._url)

    def size(self) -> int:
        self._connection.close()
        return _relations(self._url, "public.states")

    def _got(self, rest: str, value: int) -> bytes:
        [row] = self._ask(f"SELECT * FROM states WHERE thread = 't' {rest}", value)
        return bytes(row[3])

    def _ask(self, text: str, value: int) -> list[Any]:
        return self._connection.execute(text.encode(), (value,), binary=True).fetchall()


class LangGraphTable(_LangGraph):
    """langgraph-checkpoint-postgres."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._stack = ExitStack()
        module = importlib.import_module("langgraph.checkpoint.postgres")
        self._saver = self._stack.enter_context(module.PostgresSaver.from_conn_string(url))
        self._saver.setup()

    def reopened(self) -> LangGraphTable:
        self._stack.close()
        return LangGraphTable(self._url)

    def size(self) -> int:
        self._stack.close()
        names = ("checkpoints", "checkpoint_blobs", "checkpoint_writes")
        return _relations(self._url, *(f"public.{name}" for name in names))


class HoldfastTable(_Holdfast):
    """Our store in PostgreSQL, as the application's role."""

    def __init__(self, url: str, owner: str, ids: list[str] | None = None) -> None:
        self._url, self._owner = url, owner
        super().__init__(holdfast.open(url, embedder=None, setup=False), ids)

    def reopened(self) -> HoldfastTable:
        self._storage.close()
        return HoldfastTable(self._url, self._owner, self._ids)

    def size(self) -> int:
        self._storage.close()
        names = ("checkpoints", "checkpoint_logs", "checkpoint_stretches")
        return _relations(self._owner, *(f"holdfast.{name}" for name in names))


def _relations(url: str, *names: str) -> int:
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        sizes: Sequence[Any] = connection.execute(
            "SELECT pg_total_relation_size(name::regclass) FROM unnest(%s::text[]) AS name",
            (list(names),),
        ).fetchall()
    return sum(size for (size,) in sizes)


def _uuid(step: int) -> str:
    return str(uuid.UUID(int=(step + 1) << 32))
