"""Real processes that use the store of a case: to race with, to freeze and to kill.

A peer reads one command per line and answers with lines of JSON; see ACTIONS.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final

from holdfast.core.change import Claim, Edit
from holdfast.core.clock import SystemClock
from holdfast.core.driver import Driver
from holdfast.core.filter import eq
from holdfast.core.query import asc
from holdfast.core.runtime import Runtime
from holdfast.core.scope import Scope
from holdfast.layers.check import Checked
from holdfast.storage import Storage, all_collections
from holdfast.stores.memory.spaces import MoveProgress
from holdfast.testing.models import AngleEmbedder
from holdfast.testing.shapes import EVENTS, JOBS, PARENTS, SHAPES, event, put
from holdfast.testing.threads import at_once

TENANT: Final = "t"
BUSY_SECONDS: Final = 60.0
"""A file's lock goes to whoever asks at the right moment, which is a long wait for somebody."""


class Peer:
    """One process on the store. Every peer is reaped when its block ends."""

    def __init__(self, url: str) -> None:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "holdfast.testing.processes", url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
        )

    def start(self, action: str, *arguments: Any) -> None:
        """Tell the peer to begin; its answers are read one by one."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([action, *arguments]) + "\n")
        self._process.stdin.flush()

    def answer(self) -> Any:
        """The peer's next answer; EOFError when it died first."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line.endswith("\n"):
            raise EOFError("the peer has ended")
        return json.loads(line)

    def freeze(self) -> None:
        """Stop the process where it is, locks and all."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> list[Any]:
        """Kill without warning; the whole answers that it gave before."""
        self._process.kill()
        assert self._process.stdout is not None
        lines = self._process.stdout.readlines()
        self._process.wait()
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def end(self) -> None:
        """Reap the process, whatever state it is in."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()


@contextmanager
def peers_on(url: str, count: int) -> Iterator[list[Peer]]:
    """So many processes, each ready to be told what to do."""
    with ExitStack() as stack:
        peers = []
        for _ in range(count):
            peer = Peer(url)
            stack.callback(peer.end)
            peers.append(peer)
        for peer in peers:
            assert peer.answer() == "started"
        yield peers


def _setup(driver: Driver) -> None:
    driver.setup(SHAPES)
    _say("ready")


def _number(driver: Driver, name: str, count: int) -> None:
    """Put events on one thread and answer with the numbers that each was given."""
    given = []
    for n in range(count):
        record = driver.apply(TENANT, [put(EVENTS, event(f"{name}-{n}"))])[0].record
        given.append([record["seq"], record["number"]])
    _say(given)


def _claim(driver: Driver, name: str) -> None:
    """Claim waiting jobs until none is left, and answer with their ids."""
    claim = Claim(
        JOBS.name,
        eq("state", "waiting"),
        asc("priority"),
        2,
        Edit(set={"state": "taken", "worker": name}),
    )
    taken: list[str] = []
    while records := driver.apply(TENANT, [claim])[0].records:
        taken.extend(record["id"] for record in records)
    _say(taken)


def _write(driver: Driver, name: str) -> None:
    """Write for ever, and say each record's id once it is acknowledged."""
    n = 0
    while True:
        driver.apply(TENANT, [put(PARENTS, {"id": f"{name}-{n}", "name": ""})])
        _say(f"{name}-{n}")
        n += 1


def _hold(driver: Driver, name: str) -> None:
    """Write inside a group, and end the group at the next line only."""
    with driver.group():
        driver.apply(TENANT, [put(PARENTS, {"id": name, "name": ""})])
        _say("holding")
        sys.stdin.readline()
    _say("released")


def _audit(driver: Driver, name: str, count: int) -> None:
    """Append so many entries to the audit log, and answer with their places."""
    driver.setup(all_collections())
    storage = Storage(driver, Scope(), Runtime())
    _say([storage.audit.append("did", actor=name).seq for _ in range(count)])


def _count(driver: Driver, key: str, count: int) -> None:
    """Count a key up so many times."""
    driver.setup(all_collections())
    storage = Storage(driver, Scope(), Runtime())
    for _ in range(count):
        storage.kv.update(key, lambda held: (held or 0) + 1)
    _say("counted")


def _claim_tasks(driver: Driver, name: str, claimers: int) -> None:
    """Claim tasks in so many threads until none is left, and answer with their ids."""
    driver.setup(all_collections())
    storage = Storage(driver, Scope(), Runtime())

    def claim(worker: int) -> list[str]:
        taken: list[str] = []
        while claimed := storage.tasks.claim(f"{name}-{worker}", limit=2):
            taken.extend(task.id for task in claimed)
        return taken

    _say([id for taken in at_once(claimers, claim) for id in taken])


def _reembed(driver: Driver, model: str, width: int) -> None:
    """Move memories to another space one by one, and wait for a line after each."""
    driver.setup(all_collections())
    storage = Storage(driver, Scope(), Runtime())

    def tell(progress: MoveProgress) -> None:
        _say([progress.done, progress.left])
        sys.stdin.readline()

    embedder = AngleEmbedder(model, width)
    _say(storage.memory.spaces.reembed(embedder, batch=1, on_progress=tell).id)


def _checkpoint(driver: Driver, name: str, count: int) -> None:
    """Save a conversation as it grows, and say each checkpoint's id once it is acknowledged."""
    driver.setup(all_collections())
    storage = Storage(driver, Scope(), Runtime())
    for step in range(count):
        _say(storage.checkpoints.save(step_of(name, step), iteration=step).id)


def step_of(name: str, step: int) -> bytes:
    """The state that the peer of this name saves at a step, counted from 0."""
    lines = [f"{name} said in step {n} what it had to say about {n * n}" for n in range(step + 120)]
    return "\n".join([*lines, f"[{step}]"]).encode()


ACTIONS: Final[dict[str, Callable[..., None]]] = {
    "audit": _audit,
    "checkpoint": _checkpoint,
    "count": _count,
    "setup": _setup,
    "number": _number,
    "claim": _claim,
    "claim tasks": _claim_tasks,
    "write": _write,
    "hold": _hold,
    "reembed": _reembed,
}


def _say(answer: Any) -> None:
    print(json.dumps(answer), flush=True)


def main() -> None:
    """Open the store that the command line names and do what the lines ask for."""
    from holdfast.open import file_of, open_driver

    url = sys.argv[1]
    busy_seconds = None if file_of(url) is None else BUSY_SECONDS
    driver = Checked(open_driver(url, SystemClock(), busy_seconds=busy_seconds))
    _say("started")
    while line := sys.stdin.readline():
        action, *arguments = json.loads(line)
        ACTIONS[action](driver, *arguments)


if __name__ == "__main__":
    main()
