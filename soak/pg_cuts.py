"""Links to PostgreSQL cut under load, also just before and just after COMMIT was done.

Whoever gets no answer asks again with the same operation id, until there is one: then each message
is there, and once. One saboteur repeats without an id, the other takes no answer for a yes.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import holdfast
from holdfast.core.errors import HoldfastError
from holdfast.storage import Storage
from holdfast.testing.servers import Proxy, proxied, running
from holdfast.testing.servers.pids import wait_for
from holdfast.testing.servers.proxy import Moment
from soak.campaign import Result, Saboteur, Tick, chances, ignore, timed
from soak.pg_kills import _new_store
from soak.workload import ALWAYS_ASK, TENANT

WRITERS: Final = 4
MOMENTS: Final[tuple[Moment | None, ...]] = ("commit asked", "commit answered", None)
"""None is any moment, on every link at once."""
WITHOUT_THE_WORD: Final[tuple[Moment | None, ...]] = ("batch asked", "commit answered", None)
"""A write without an operation id is a batch of its own, in which no COMMIT is to be seen."""
LONGEST_WAIT_SECONDS: Final = 0.02
CUT_SECONDS: Final = 30.0
"""A writer has to bring a commit by within so long, so that it can be cut."""
PAUSE_SECONDS: Final = 0.002

Append = Callable[[Storage, str, str], int]
"""Append one message to a conversation, and say after how many tries it counted as done."""


@dataclass
class _Told:
    """What the writers were told."""

    names: set[str] = field(default_factory=set)
    repeats: int = 0
    findings: list[str] = field(default_factory=list)


def run(cuts: int, *, seed: int = 1, tick: Tick = ignore) -> Result:
    """Cut so many times; each saboteur gets a tenth of that, at least 12."""
    result = Result(campaign="pg-cuts", trial="links to PostgreSQL cut", trials=cuts, seed=seed)
    broken: tuple[tuple[str, Append], ...] = (
        ("repeats without an operation id", partial(_until_done, keyed=False)),
        ("takes no answer for a yes", _hoping),
    )
    with timed(result), running() as server, proxied(server.port) as proxy:
        direct = _new_store(server, "sound")
        for finding in _campaign(proxy, direct, cuts, seed, _until_done, result.counts, tick):
            result.note(finding)
        for number, (name, append) in enumerate(broken):
            saboteur = Saboteur(name=name, trials=max(12, cuts // 10))
            direct = _new_store(server, f"broken_{number}")
            found = _campaign(proxy, direct, saboteur.trials, seed, append, saboteur.counts, ignore)
            for finding in found:
                saboteur.note(finding)
            result.saboteurs.append(saboteur)
    return result


def _campaign(
    proxy: Proxy,
    direct: str,
    cuts: int,
    seed: int,
    append: Append,
    counts: dict[str, int],
    tick: Tick,
) -> list[str]:
    """Cut under writers, then read what is there by a link that nobody cuts."""
    told = _Told()
    moments = MOMENTS if append is _until_done else WITHOUT_THE_WORD
    with holdfast.open(direct, tenant=TENANT, embedder=None) as sound:
        thread = sound.conversations.create().id
        through = (
            direct.rpartition("@")[0] + f"@127.0.0.1:{proxy.port}/" + direct.rpartition("/")[2]
        )
        with holdfast.open(through, tenant=TENANT, embedder=None, options=ALWAYS_ASK) as storage:
            stopping = threading.Event()
            crew = [
                threading.Thread(target=_write, args=(storage, thread, n, append, told, stopping))
                for n in range(WRITERS)
            ]
            for writer in crew:
                writer.start()
            try:
                for number in range(cuts):
                    _cut(proxy, number, moments[number % len(moments)], seed, counts)
                    tick(number + 1)
            finally:
                stopping.set()
                for writer in crew:
                    writer.join()
        found = Counter(message.text for message in sound.conversations.messages.recent(thread, 0))
    lost = sorted(told.names - set(found))
    doubled = sorted(name for name, times in found.items() if times > 1)
    counts["messages_acknowledged"] = len(told.names)
    counts["calls_repeated"] = told.repeats
    counts["lost"], counts["doubled"] = len(lost), len(doubled)
    return [
        *told.findings,
        *(f"lost: {name}" for name in lost),
        *(f"doubled: {name}" for name in doubled),
    ]


def _cut(
    proxy: Proxy, number: int, moment: Moment | None, seed: int, counts: dict[str, int]
) -> None:
    if moment is None:
        time.sleep(chances(seed, "cut", number).uniform(0, LONGEST_WAIT_SECONDS))
        proxy.cut()
        name = "cut_at_any_moment"
    else:
        before = proxy.commits_cut
        proxy.cut_next_commit(moment)
        wait_for(lambda: proxy.commits_cut > before, seconds=CUT_SECONDS)
        name = f"cut_when_{moment.replace(' ', '_was_')}"
    counts[name] = counts.get(name, 0) + 1


def _write(
    storage: Storage,
    thread: str,
    number: int,
    append: Append,
    told: _Told,
    stopping: threading.Event,
) -> None:
    count = 0
    try:
        while not stopping.is_set():
            count += 1
            name = f"{number}.{count}"
            told.repeats += append(storage, thread, name) - 1
            told.names.add(name)
    except Exception as error:  # noqa: BLE001 - whatever a writer was told is a finding
        told.findings.append(f"a writer failed: {type(error).__name__}: {error}")


def _until_done(storage: Storage, thread: str, name: str, *, keyed: bool = True) -> int:
    """Ask again until there is an answer."""
    tries = 0
    while True:
        tries += 1
        try:
            storage.conversations.append(thread, name, op_id=name if keyed else None)
            return tries
        except HoldfastError as error:
            if not error.retryable:
                raise
            time.sleep(PAUSE_SECONDS)


def _hoping(storage: Storage, thread: str, name: str) -> int:
    try:
        storage.conversations.append(thread, name)
    except HoldfastError as error:
        if not error.retryable:
            raise
    return 1
