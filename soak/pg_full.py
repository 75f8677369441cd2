"""The disk of a PostgreSQL fills up, and has space again: what was acknowledged is all there is.

The cluster's files are on one small file system in memory and its log of writes on another; in turn
each is filled but for a little. Where the files no longer fit, a write is refused as `StorageFull`,
reads go on, and nothing of what was refused is there. Where the log does not fit, PostgreSQL ends
itself; its operator makes room and starts it. The handle is the same all the time. The saboteur
takes a refusal for done. Needs root and Linux, to mount the file systems.
"""

from __future__ import annotations

import contextlib
import itertools
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import holdfast
from holdfast.core.change import Change, Outcome, Put
from holdfast.core.clock import SystemClock
from holdfast.core.errors import HoldfastError, StorageFull
from holdfast.layers.check import Checked
from holdfast.layers.layer import Layer
from holdfast.open import open_driver
from holdfast.storage import Storage
from holdfast.testing.servers import MissingServer, Server, find, started
from holdfast.testing.servers.pids import wait_for
from holdfast.testing.servers.postgres import free_port
from holdfast.testing.servers.run import new_folder
from soak.campaign import Result, Saboteur, Tick, chances, ignore, timed
from soak.workload import ALWAYS_ASK, TENANT, keys_of, storage_on

MIB: Final = 1 << 20
SIZES_MIB: Final = {"data": 256, "wal": 24}
"""How large the two file systems are."""
LEFT_MIB: Final = 2
"""What the ballast leaves free."""
VALUE_BYTES: Final = 20_000
MOST_WRITES: Final = {"data": 400, "wal": 2_000}
"""So many writes do not fit into what is left."""
RECOVERY_SECONDS: Final = 60.0
SETTINGS: Final = {"max_wal_size": "1GB", "wal_recycle": "off", "autovacuum": "off"}
"""No checkpoint makes room in the log before it is full, and no spare part of it lies about."""


class TakesForDone(Layer):
    """Saboteur: a write that the disk has no room for is answered as if it were there."""

    def apply(
        self,
        tenant: str,
        changes: Sequence[Change],
        *,
        op_id: str | None = None,
        op_body: bytes | None = None,
    ) -> list[Outcome]:
        try:
            return self.below.apply(tenant, changes, op_id=op_id, op_body=op_body)
        except StorageFull:
            puts = [change for change in changes if isinstance(change, Put)]
            return [Outcome(1, ({**put.record, "revision": 1},)) for put in puts]


class Disk:
    """A file system in memory, which can be filled."""

    def __init__(self, path: Path, size_mib: int) -> None:
        self.path = path
        path.mkdir()
        owner = path.parent.stat()
        options = f"size={size_mib}m,mode=700,uid={owner.st_uid},gid={owner.st_gid}"
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(path)]
        if shutil.which("mount") is None or subprocess.run(command, check=False).returncode:
            raise MissingServer("To fill a disk one has to mount it: that needs root on Linux.")

    def fill(self) -> None:
        """Leave only a little."""
        with self._ballast.open("ab", buffering=0) as ballast, contextlib.suppress(OSError):
            while True:
                ballast.write(bytes(MIB // 4))
        with self._ballast.open("ab") as ballast:
            ballast.truncate(max(0, ballast.tell() - LEFT_MIB * MIB))

    def free(self) -> None:
        """Give back what was taken."""
        self._ballast.unlink(missing_ok=True)

    def unmount(self) -> None:
        """Take it away, also while somebody has a file of it open."""
        subprocess.run(["umount", "-l", str(self.path)], check=False, capture_output=True)

    @property
    def _ballast(self) -> Path:
        return self.path / "ballast"


class Trials:
    """One handle on a server whose disks are filled in turn."""

    def __init__(
        self, server: Server, disks: dict[str, Disk], storage: Storage, note: Callable[[str], None]
    ) -> None:
        self._server = server
        self._disks = disks
        self._storage = storage
        self._note = note
        self._numbers = itertools.count(1)
        self.acknowledged: set[str] = set()
        self.refused: set[str] = set()
        self.codes: dict[str, int] = {}

    def fill(self, which: str, chance: random.Random) -> None:
        """Write until the disk refuses, make room, and write again."""
        self._write(chance)
        self._server.psql("CHECKPOINT")  # a recovery needs room, and has what the ballast took
        self._disks[which].fill()
        for _ in range(MOST_WRITES[which]):
            error = self._write(chance)
            if error is not None:
                break
        else:
            self._note(f"{which}: nothing was refused")
        if which == "data":
            self._read()
        self._disks[which].free()
        if which == "wal":
            self._server.kill()
            self._server.start()
        try:
            wait_for(lambda: self._write(chance) is None, seconds=RECOVERY_SECONDS)
        except TimeoutError:
            self._note(f"{which}: no write within {RECOVERY_SECONDS:g} s of having room again")

    def compare(self) -> None:
        """Note what was acknowledged and is not there, and what is there though it was refused."""
        held = set(keys_of(self._storage))
        for name in sorted(self.acknowledged - held):
            self._note(f"lost: {name}")
        for name in sorted(self.refused & held):
            self._note(f"there, though it was refused: {name}")

    def tell(self, counts: dict[str, int]) -> None:
        """Add what was done, and how it was refused."""
        counts["acknowledged"] = len(self.acknowledged)
        for code, times in sorted(self.codes.items()):
            counts[f"told_as_{code}"] = times

    def _write(self, chance: random.Random) -> HoldfastError | None:
        """One entry that does not shrink when it is packed; the error that refused it."""
        name = f"k{next(self._numbers)}"
        try:
            self._storage.kv.set(name, chance.randbytes(VALUE_BYTES // 2).hex())
        except HoldfastError as error:
            self.codes[error.code] = self.codes.get(error.code, 0) + 1
            if isinstance(error, StorageFull):
                self.refused.add(name)
            elif not error.retryable:
                self._note(f"a full disk was told as {error.code}")
            return error
        self.acknowledged.add(name)
        return None

    def _read(self) -> None:
        try:
            if any(self._storage.kv.get(name) is None for name in sorted(self.acknowledged)[:5]):
                self._note("what was acknowledged was not found while the disk was full")
        except HoldfastError as error:
            self._note(f"could not be read while the disk was full: {error.code}")


def run(fills: int, *, seed: int = 1, tick: Tick = ignore) -> Result:
    """Fill the disks in turn so many times; for the saboteur twice."""
    result = Result(
        campaign="pg-full", trial="a disk of PostgreSQL's is full", trials=fills, seed=seed
    )
    done = Saboteur(name="takes a refusal for done", trials=1)
    with timed(result):
        with _server() as (server, disks):
            url = _new_store(server, "sound")
            with holdfast.open(url, tenant=TENANT, embedder=None, options=ALWAYS_ASK) as storage:
                trials = Trials(server, disks, storage, result.note)
                chance = chances(seed, "sound")
                for number in range(fills):
                    trials.fill(("data", "wal")[number % 2], chance)
                    trials.compare()
                    tick(number + 1)
            trials.tell(result.counts)
        with _server() as (server, disks):
            lying = TakesForDone(Checked(open_driver(_new_store(server, "lying"), SystemClock())))
            with storage_on(lying) as storage:
                trials = Trials(server, disks, storage, done.note)
                trials.fill("data", chances(seed, "lying"))
                trials.compare()
            trials.tell(done.counts)
    result.saboteurs.append(done)
    return result


@contextmanager
def _server() -> Iterator[tuple[Server, dict[str, Disk]]]:
    """A server on two small disks."""
    place = new_folder("full")
    disks: dict[str, Disk] = {}
    try:
        for name, size in SIZES_MIB.items():
            disks[name] = Disk(place / name, size)
        server = Server(find(), disks["data"].path, free_port())
        options = ("-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync")
        wal = ("--waldir", str(disks["wal"].path), "--wal-segsize", "1")
        server.run("initdb", "-D", str(server.data), *options, *wal)
        server.configure(SETTINGS)
        with started(server):
            yield server, disks
    finally:
        for disk in disks.values():
            disk.unmount()


def _new_store(server: Server, name: str) -> str:
    server.psql(f"CREATE DATABASE {name}")
    return server.url(name)
