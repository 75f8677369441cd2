"""The leader of a cluster under Patroni dies again and again, under writers that go on.

Its Patroni and its PostgreSQL are killed; another node takes over, and the dead one comes back and
follows. The writers keep one handle on all three nodes. What was acknowledged is there, and once.
How long nobody led is told, not judged. The saboteur acknowledges before it commits. A cluster that
does not wait for a second node is beside it as a number: it is what its user chose.
"""

from __future__ import annotations

import statistics
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from time import perf_counter
from typing import Final

import psycopg

import holdfast
from holdfast.core.clock import SystemClock
from holdfast.core.errors import HoldfastError, ReadOnly
from holdfast.layers.check import Checked
from holdfast.open import open_driver
from holdfast.testing.servers.pids import wait_for
from soak.campaign import Result, Saboteur, Tick, chances, ignore, timed
from soak.patroni import Cluster, cluster
from soak.pg_kills import AnswersEarly
from soak.workload import ALWAYS_ASK, TENANT, keys_of, storage_on

WRITERS: Final = 3
PAUSE_SECONDS: Final = 0.02
"""Between two writes, and between two tries."""
MORE: Final = 10
"""Each writer is acknowledged so often before a kill and after it."""
RECOVERY_SECONDS: Final = 180.0
"""So long after the kill every writer has to be acknowledged again."""
LONGEST_LIFE_SECONDS: Final = 2.0


class Writer:
    """One thread that writes name after name, each until it is acknowledged."""

    def __init__(self, write: Callable[[str], object], prefix: str) -> None:
        self._write = write
        self._prefix = prefix
        self._stopping = threading.Event()
        self.told: list[str] = []
        self.findings: list[str] = []
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> None:
        """End after the try that is under way."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        name = f"{self._prefix}.0"
        while not self._stopping.wait(PAUSE_SECONDS):
            try:
                self._write(name)
            except HoldfastError as error:
                # For a moment there is no node that takes writes, which is no reason to give up.
                if not error.retryable and not isinstance(error, ReadOnly):
                    self.findings.append(f"a dead leader was told as {error.code}")
            except Exception as error:  # noqa: BLE001 - anything untyped is a finding
                self.findings.append(f"untyped: {type(error).__name__}: {error}")
            else:
                self.told.append(name)
                name = f"{self._prefix}.{len(self.told)}"


def run(kills: int, *, seed: int = 1, tick: Tick = ignore) -> Result:
    """Kill the leader so many times; once more each for the saboteur and for the number."""
    result = Result(
        campaign="pg-patroni",
        trial="the leader of three nodes under Patroni is killed",
        trials=kills,
        seed=seed,
    )
    early = Saboteur(name="acknowledges before the commit", trials=1)
    with timed(result):
        with cluster() as nodes:
            told, held = _messages(nodes, kills, seed, result, tick)
            compare(told, held, result.note, result.counts)
            told, held = _early(nodes, seed)
            compare(told, held, early.note, early.counts)
        with cluster(synchronous=False) as nodes:
            beside = Result(campaign="", trial="", trials=1, seed=seed)
            told, held = _messages(nodes, 1, seed, beside, ignore)
            result.count("lost_where_no_second_node_is_waited_for", len(set(told) - set(held)))
    result.saboteurs.append(early)
    return result


def _messages(
    nodes: Cluster, kills: int, seed: int, result: Result, tick: Tick
) -> tuple[list[str], list[str]]:
    """Append messages with operation ids under kills; what was acknowledged, and what is there."""
    url = _new_store(nodes, "messages")
    with holdfast.open(url, tenant=TENANT, embedder=None, options=ALWAYS_ASK) as storage:
        talk = storage.conversations.create(key="thread").id

        def write(name: str) -> None:
            storage.conversations.append(talk, name, op_id=name)

        with _crew(write) as crew:
            recoveries = list(_cycles(nodes, crew, kills, seed, result, tick))
        told = [name for writer in crew for name in writer.told]
        held = [message.text for message in storage.conversations.messages.recent(talk, 0)]
    for writer in crew:
        for finding in writer.findings:
            result.note(finding)
    result.count("kills", kills)
    result.count("milliseconds_to_recover_median", round(statistics.median(recoveries) * 1000))
    result.count("milliseconds_to_recover_longest", round(max(recoveries) * 1000))
    return told, held


def _early(nodes: Cluster, seed: int) -> tuple[list[str], list[str]]:
    """Entries through the saboteur under one kill."""
    url = _new_store(nodes, "early")
    storage = storage_on(AnswersEarly(Checked(open_driver(url, SystemClock()))))

    def write(name: str) -> None:
        storage.kv.set(name, 1)

    with storage, _crew(write) as crew:
        aside = Result(campaign="", trial="", trials=1, seed=seed)
        list(_cycles(nodes, crew, 1, seed, aside, ignore))
    told = [name for writer in crew for name in writer.told]
    with holdfast.open(url, tenant=TENANT, embedder=None, options=ALWAYS_ASK) as reader:
        return told, keys_of(reader)


def _cycles(
    nodes: Cluster, crew: list[Writer], kills: int, seed: int, result: Result, tick: Tick
) -> Iterator[float]:
    """Kill who leads, wait until all are served again, and bring the dead one back; the seconds."""
    chance = chances(seed, "patroni")
    pause = threading.Event()
    for done in range(1, kills + 1):
        wait_for(partial(_further, crew, _told(crew)), seconds=RECOVERY_SECONDS)
        pause.wait(chance.uniform(0, LONGEST_LIFE_SECONDS))
        leader = nodes.leader()
        leader.kill()
        killed, before = perf_counter(), _told(crew)
        try:
            wait_for(partial(_further, crew, before), seconds=RECOVERY_SECONDS)
        except TimeoutError:
            result.note(f"a writer was not served within {RECOVERY_SECONDS:g} s of the kill")
        yield perf_counter() - killed
        nodes.revive(leader)
        nodes.wait_until_whole()
        tick(done)


@contextmanager
def _crew(write: Callable[[str], object]) -> Iterator[list[Writer]]:
    """Writers at work until the block ends."""
    crew = [Writer(write, f"w{number}") for number in range(WRITERS)]
    try:
        yield crew
    finally:
        for writer in crew:
            writer.stop()


def _told(crew: list[Writer]) -> list[int]:
    return [len(writer.told) for writer in crew]


def _further(crew: list[Writer], before: list[int]) -> bool:
    return all(len(w.told) >= told + MORE for w, told in zip(crew, before, strict=True))


def compare(
    told: list[str], held: list[str], note: Callable[[str], None], counts: dict[str, int]
) -> None:
    """Note what was acknowledged and is not there, and what is there twice."""
    lost = sorted(set(told) - set(held))
    doubled = sorted(name for name, times in Counter(held).items() if times > 1)
    for name in lost:
        note(f"lost: {name}")
    for name in doubled:
        note(f"doubled: {name}")
    counts |= {"acknowledged": len(told), "lost": len(lost), "doubled": len(doubled)}


def _new_store(nodes: Cluster, name: str) -> str:
    """A database of the cluster, and the URL by way of all its nodes."""
    with psycopg.connect(nodes.url("postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return nodes.url(name)
