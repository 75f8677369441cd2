"""What the processes of the campaigns do. Each says its answers line by line."""

from __future__ import annotations

import os
import queue
import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

import apsw

import holdfast
from holdfast.backends.sqlite import SqliteDriver, merging
from holdfast.backends.sqlite import connection as connections
from holdfast.core.change import Change, Outcome, Put
from holdfast.core.driver import Driver
from holdfast.core.errors import Busy
from holdfast.layers.check import Checked
from holdfast.layers.layer import Layer
from soak.editions import NEW
from soak.fullscan import Ahead, Rememberer, is_due, opened
from soak.fullscan import merge as merge_due
from soak.workload import TENANT, Workload, storage_on

Say = Callable[[str], None]


EARLY_DELAY_SECONDS: Final = 0.02
"""How far the saboteur's commit trails its answer, so that a fast disk does not hide the fault."""


class AnswersEarly(Layer):
    """Saboteur: the answer is given at once, and the commit follows when there is time."""

    def __init__(self, below: Driver) -> None:
        super().__init__(below)
        self._queue: queue.SimpleQueue[tuple[str, Sequence[Change]]] = queue.SimpleQueue()
        threading.Thread(target=self._commit, daemon=True).start()

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

    def _commit(self) -> None:
        while True:
            work = self._queue.get()
            time.sleep(EARLY_DELAY_SECONDS)
            self.below.apply(*work)


LONGEST_PAUSE_SECONDS: Final = 0.01
MERGING_SHARE: Final = 0.05
"""How often a writer of memories merges by itself."""


def write(
    say: Say, *, path: str, prefix: str, threads: int, log_pages: int, early: bool = False
) -> None:
    """Write until killed, and say each name once its write has returned."""
    connections.CHECKPOINT_PAGES = log_pages
    if early:
        storage = storage_on(Checked(SqliteDriver(path)))
        storage = holdfast.Storage(AnswersEarly(storage._driver), storage.scope, storage._runtime)
    else:
        storage = holdfast.open(path, tenant=TENANT)

    def run(number: int) -> None:
        workload = Workload(storage, f"{prefix}.{number}", ("kv",) if early else ())
        if not early:
            workload.prepare()
        while True:
            name = workload.next_name()
            # A pause now and then, or the early answers would fill memory without a bound.
            if early:
                time.sleep(0.0005)
            workload.write(name)
            say(name)

    workers = [threading.Thread(target=_reporting(run, say), args=(n,)) for n in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


def _reporting(run: Callable[[int], None], say: Say) -> Callable[[int], None]:
    def reported(number: int) -> None:
        try:
            run(number)
        except Exception as error:  # noqa: BLE001 - a writer that fails is a finding
            say(f"error {type(error).__name__}: {error}")

    return reported


def open_new(say: Say, *, path: str, name: str, naive: bool = False) -> None:
    """Open a file that may not exist yet, write one entry, close."""
    if naive:
        _make_naive()
    with holdfast.open(path, tenant=TENANT) as storage:
        storage.kv.set(name, 1)
    say("opened")


def open_old(say: Say, *, path: str, name: str, naive: bool = False) -> None:
    """Open a file of an older edition, bring it up, add a record, close."""
    if naive:
        _make_naive()
    driver = Checked(SqliteDriver(path))
    driver.setup(NEW)
    record = {"id": name, "text": name, "weight": 2, "label": None}
    driver.apply(TENANT, [Put(NEW[0].name, record)])
    driver.close()
    say("opened")


def _make_naive() -> None:
    """Saboteur: write-ahead logging is entered once, and nobody waits for a lock."""

    def once(connection: apsw.Connection, busy_seconds: float) -> None:  # noqa: ARG001
        connection.set_busy_timeout(0)
        if connection.execute("PRAGMA journal_mode=WAL").get != "wal":
            raise Busy("Entering write-ahead logging failed.")

    connections._enter_wal = once


def hold(say: Say, *, path: str, name: str, release: str, idle: bool = False) -> None:
    """Write inside a group, say so, and end the group when a file appears.

    Saboteur: when ``idle``, the write comes last, so that meanwhile no lock is held.
    """
    driver = Checked(SqliteDriver(path))
    storage = storage_on(driver)
    with driver.group():
        if not idle:
            storage.kv.set(name, 1)
        say("holding")
        while not os.path.exists(release):
            time.sleep(0.01)
        if idle:
            storage.kv.set(name, 1)
    storage.close()
    say("released")


def read_long(say: Say, *, path: str, release: str) -> None:
    """Keep one read transaction open, as another program may, until a file appears."""
    reader = apsw.Connection(path)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM entries").fetchall()
    say("reading")
    while not os.path.exists(release):
        time.sleep(0.01)
    reader.execute("COMMIT")
    reader.close()
    say("released")


def remember(say: Say, *, path: str, seed: str) -> None:
    """Write memories until killed, merge now and then, and say what each call was."""
    driver, storage = opened(path)
    writer, chance = Rememberer(storage, seed), random.Random(seed)
    while True:
        say(writer.write())
        time.sleep(chance.random() * LONGEST_PAUSE_SECONDS)
        if chance.random() < MERGING_SHARE:
            merge_due(driver)
            say("merge")


def merge(
    say: Say, *, path: str, seed: str, seconds_ahead: float, unfinished: bool = False
) -> None:
    """Write a little and merge, until killed; say when a merge begins and when it has ended.

    ``unfinished`` ends the process when the first merge is about to write what it made.
    """
    if unfinished:
        merging._put_down = lambda *_: os._exit(9)
    driver, storage = opened(path, clock=Ahead(seconds_ahead))
    writer = Rememberer(storage, seed)
    while True:
        while not is_due(driver):
            writer.write()
        say("merging")
        merge_due(driver)
        say("merged")


JOBS: Final[dict[str, Callable[..., None]]] = {
    "write": write,
    "open_new": open_new,
    "open_old": open_old,
    "hold": hold,
    "read_long": read_long,
    "remember": remember,
    "merge": merge,
}
