"""kill -9 of a whole PostgreSQL cluster under load: what was acknowledged is there, and once.

The writers' handles stay open through all kills and must work again by themselves. The server syncs
every commit. The saboteur acknowledges before it commits.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Final

import holdfast
from holdfast.core.change import Change, Outcome, Put
from holdfast.core.clock import SystemClock
from holdfast.core.driver import Driver
from holdfast.core.errors import HoldfastError
from holdfast.layers.check import Checked
from holdfast.layers.layer import Layer
from holdfast.open import open_driver
from holdfast.storage import Storage
from holdfast.testing.servers import Server, running
from holdfast.testing.servers.pids import wait_for
from soak.campaign import Result, Saboteur, Tick, chances, ignore, timed
from soak.jobs import EARLY_DELAY_SECONDS
from soak.workload import ALWAYS_ASK, TENANT, Workload, judged, names_of, storage_on

KILLS_PER_STORE: Final = 25
WRITERS: Final = 4
LONGEST_LIFE_SECONDS: Final = 0.3
"""The cluster lives for up to so long after the writers are at work again."""
RECOVERY_SECONDS: Final = 10.0
"""Every writer has to be acknowledged again so soon after the server is back."""
PAUSE_SECONDS: Final = 0.01
"""Between two tries while nothing answers."""

Open = Callable[[str], Storage]


class AnswersEarly(Layer):
    """Saboteur: the answer is given at once, and the commit follows when there is time."""

    def __init__(self, below: Driver) -> None:
        super().__init__(below)
        self._queue: queue.SimpleQueue[tuple[str, Sequence[Change]]] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._commit, daemon=True)
        self._thread.start()

    def apply(
        self,
        tenant: str,
        changes: Sequence[Change],
        *,
        op_id: str | None = None,
        op_body: bytes | None = None,
    ) -> list[Outcome]:
        puts = [change for change in changes if isinstance(change, Put)]
        self._queue.put((tenant, changes))
        return [Outcome(1, ({**put.record, "revision": 1},)) for put in puts]

    def close(self) -> None:
        self._closing.set()
        self._queue.put(("", ()))
        self._thread.join()
        super().close()

    def _commit(self) -> None:
        while not self._closing.is_set():
            work = self._queue.get()
            time.sleep(EARLY_DELAY_SECONDS)
            with contextlib.suppress(HoldfastError):
                self.below.apply(*work)


class Writer:
    """One thread's work on a handle that it keeps, whatever happens to the server."""

    def __init__(self, storage: Storage, prefix: str, kinds: tuple[str, ...]) -> None:
        self._workload = Workload(storage, prefix, kinds)
        if not kinds:
            self._workload.prepare()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.acknowledged: set[str] = set()
        self.untold: set[str] = set()
        self.findings: list[str] = []
        self._thread.start()

    def stop(self) -> None:
        """End after the write that is under way."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.is_set():
            name = self._workload.next_name()
            try:
                self._workload.write(name)
                self.acknowledged.add(name)
            except HoldfastError as error:
                self.untold.add(name)
                if not error.retryable:
                    self.findings.append(f"a killed server was told as {error.code}")
                self._stopping.wait(PAUSE_SECONDS)
            except Exception as error:  # noqa: BLE001 - anything untyped is a finding
                self.findings.append(f"untyped: {type(error).__name__}: {error}")


def run(kills: int, *, seed: int = 1, tick: Tick = ignore) -> Result:
    """Kill so many times; the saboteur gets a twentieth of that, at least 4."""
    result = Result(
        campaign="pg-kills", trial="kill -9 of a PostgreSQL cluster", trials=kills, seed=seed
    )
    early = Saboteur(name="acknowledges before the commit", trials=max(4, kills // 20))
    with timed(result), running(durable=True) as server:
        for first in range(0, kills, KILLS_PER_STORE):
            count = min(KILLS_PER_STORE, kills - first)
            url = _new_store(server, f"store_{first}")
            for done in _cycles(server, url, count, seed, result.note, result.counts, _sound):
                tick(first + done)
        url = _new_store(server, "early")
        for _ in _cycles(server, url, early.trials, seed, early.note, early.counts, _early):
            pass
    result.saboteurs.append(early)
    return result


def _cycles(
    server: Server,
    url: str,
    count: int,
    seed: int,
    note: Callable[[str], None],
    counts: dict[str, int],
    open_store: Open,
) -> Iterator[int]:
    """Kill and restart under the same writers, then compare what is there with their word."""
    chance = chances(seed, url.rpartition("/")[2])
    with _crew(open_store(url), ("kv",) if open_store is _early else ()) as crew:
        for done in range(1, count + 1):
            time.sleep(chance.uniform(0, LONGEST_LIFE_SECONDS))
            server.kill()
            server.start()
            told = [len(writer.acknowledged) for writer in crew]
            try:
                wait_for(partial(_all_further, crew, told), seconds=RECOVERY_SECONDS)
            except TimeoutError:
                note(f"a writer was not served within {RECOVERY_SECONDS} s of the restart")
            yield done
    acknowledged = set().union(*(writer.acknowledged for writer in crew))
    untold = set().union(*(writer.untold for writer in crew))
    held, findings = judged(Checked(open_driver(url, SystemClock())), acknowledged)
    for finding in [*findings, *(f for writer in crew for f in writer.findings)]:
        note(finding)
    for name, more in (
        ("kills", count),
        ("acknowledged", len(acknowledged)),
        ("lost", sum(f.startswith("lost") for f in findings)),
        ("writes_without_an_answer", len(untold)),
        ("stored_without_an_answer", len(names_of(held) & untold)),
    ):
        counts[name] = counts.get(name, 0) + more


@contextmanager
def _crew(storage: Storage, kinds: tuple[str, ...]) -> Iterator[list[Writer]]:
    """Writers on one handle, until the block ends."""
    crew: list[Writer] = []
    try:
        crew.extend(Writer(storage, f"w{n}", kinds) for n in range(WRITERS))
        wait_for(lambda: _all_further(crew, [0] * WRITERS), seconds=RECOVERY_SECONDS)
        yield crew
    finally:
        for writer in crew:
            writer.stop()
        storage.close()


def _all_further(crew: list[Writer], before: list[int]) -> bool:
    return all(len(w.acknowledged) > told for w, told in zip(crew, before, strict=True))


def _sound(url: str) -> Storage:
    return holdfast.open(url, tenant=TENANT, options=ALWAYS_ASK)


def _early(url: str) -> Storage:
    return storage_on(AnswersEarly(Checked(open_driver(url, SystemClock()))))


def _new_store(server: Server, name: str) -> str:
    """A database with pgvector in it, and its URL."""
    server.psql(f"CREATE DATABASE {name}")
    server.psql("CREATE EXTENSION vector", name)
    return server.url(name)
