"""The write-ahead log under steady load: it stays under its cap, also after a long reader.

Writers write and readers read through the public stores all the time, while the log's size is
watched. Then another program keeps a read transaction open: SQLite cannot shorten the log before
it ends, so that part is only measured; after it, the log must be under its cap again. The saboteur
never checkpoints.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from holdfast.backends.sqlite import SqliteDriver
from holdfast.backends.sqlite.connection import WAL_LIMIT_BYTES
from holdfast.layers.check import Checked
from holdfast.storage import Storage
from soak.campaign import Result, Saboteur, Tick, folder, ignore, timed
from soak.workload import storage_on
from soak.zygote import zygote

MIB: Final = 1024 * 1024
VALUE: Final = "0123456789abcdef" * 4096
"""64 KiB, about 17 pages of log with what goes beside it."""
KEYS: Final = 200
WRITERS: Final = 2
READERS: Final = 2


def run(mebibytes: int, *, seed: int = 1, tick: Tick = ignore) -> Result:
    """Write so many MiB of values beside readers, a quarter more beside a foreign long reader."""
    trial = f"MiB written under load, log at most {WAL_LIMIT_BYTES // MIB} MiB"
    result = Result(campaign="growth", trial=trial, trials=mebibytes, seed=seed)
    endless = Saboteur(name="no checkpoints", trials=2 * WAL_LIMIT_BYTES // MIB)
    with timed(result), folder(in_memory=True) as place:
        steady = _load(place / "steady", mebibytes, tick=tick)
        result.counts["most_log_kib_under_load"] = steady // 1024
        if steady > WAL_LIMIT_BYTES:
            result.note(f"the log grew to {steady // MIB} MiB under load")
        standing, after = _beside_long_reader(place / "long", max(80, mebibytes // 4))
        result.counts["most_log_kib_beside_a_long_reader"] = standing // 1024
        result.counts["log_kib_after_the_long_reader"] = after // 1024
        if after > WAL_LIMIT_BYTES:
            result.note(f"the log kept {after // MIB} MiB after the long reader")
        grown = _load(place / "endless", endless.trials, checkpoints=False)
        endless.counts["most_log_kib"] = grown // 1024
        if grown > WAL_LIMIT_BYTES:
            endless.note(f"the log grew to {grown // MIB} MiB")
    result.saboteurs.append(endless)
    return result


def _load(place: Path, mebibytes: int, *, checkpoints: bool = True, tick: Tick = ignore) -> int:
    """Write and read at once; the most bytes that the log had."""
    place.mkdir()
    path = str(place / "store.db")
    driver = SqliteDriver(path)
    if not checkpoints:
        driver._pool.writer.wal_autocheckpoint(0)
    with storage_on(Checked(driver)) as storage:
        return _write(storage, path, mebibytes, tick)


def _beside_long_reader(place: Path, mebibytes: int) -> tuple[int, int]:
    """The log's most bytes while another program reads, and its bytes after a little more work."""
    place.mkdir()
    path, release = str(place / "store.db"), place / "release"
    with storage_on(Checked(SqliteDriver(path))) as storage, zygote() as parent:
        storage.kv.set("first", VALUE)
        reader = parent.start("read_long", path=path, release=str(release))
        if not reader.wait_for_answers():
            raise RuntimeError(f"the reader did not begin: {reader.kill()}")
        most = _write(storage, path, mebibytes, ignore)
        release.touch()
        reader.finish()
        # One commit to checkpoint all of it, one that begins the log anew and shortens it.
        for _ in range(4):
            storage.kv.set("last", VALUE)
        return most, _log_bytes(path)


def _write(storage: Storage, path: str, mebibytes: int, tick: Tick) -> int:
    """Writers share the work; readers page and scan until it is done."""
    total, done, lock = mebibytes * MIB // len(VALUE), 0, threading.Lock()
    over, most = threading.Event(), 0

    def write(number: int) -> None:
        nonlocal done, most
        while True:
            with lock:
                if done >= total:
                    return
                done += 1
                turn = done
            storage.kv.set(f"{number}.{turn % KEYS}", f"{turn}{VALUE}")
            most = max(most, _log_bytes(path))
            if turn * len(VALUE) % MIB == 0:
                tick(turn * len(VALUE) // MIB)

    def read(_: int) -> None:
        while not over.is_set():
            list(storage.kv.list(limit=KEYS))
            storage.kv.get("first")
            time.sleep(0.001)

    readers = _threads(read, READERS)
    for writer in _threads(write, WRITERS):
        writer.join()
    over.set()
    for reader in readers:
        reader.join()
    return most


def _threads(work: Callable[[int], None], count: int) -> list[threading.Thread]:
    threads = [threading.Thread(target=work, args=(n,)) for n in range(count)]
    for thread in threads:
        thread.start()
    return threads


def _log_bytes(path: str) -> int:
    try:
        return os.path.getsize(f"{path}-wal")
    except FileNotFoundError:
        return 0
