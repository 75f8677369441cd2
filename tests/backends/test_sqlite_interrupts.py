"""An interrupt of one thread, wherever it strikes, leaves the file usable for all others."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import apsw
import pytest

import holdfast
from holdfast.backends.sqlite import connection, writer
from holdfast.core.errors import StorageFull, UnknownOutcome
from holdfast.storage import Storage

PATIENCE_SECONDS = 60.0
SHORT_SECONDS = 0.5
"""How long a call that hangs by design is waited for."""
PLACES = (writer.__file__, connection.__file__)


class Interrupt(KeyboardInterrupt):
    """Somebody pressed Ctrl-C."""


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[Storage]:
    storage = holdfast.open(str(tmp_path / "a.db"))
    storage.memory.remember("tea")
    storage.memory.recall("tea")
    yield storage
    assert answered(storage.close), "closing waits for somebody who has gone"


def answered(call: Callable[[], Any], seconds: float = PATIENCE_SECONDS) -> bool:
    """Whether a call in a thread of its own comes to an end."""
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(seconds)
    return not thread.is_alive()


def interrupted(call: Callable[[], Any], at: int) -> bool:
    """Run a call; interrupted at the ``at``-th moment within `PLACES` at which Python allows it."""
    count = 0

    def look(frame: FrameType, event: str, _: object) -> None:
        nonlocal count
        if event in ("call", "c_return") and frame.f_code.co_filename in PLACES:
            count += 1
            if count == at + 1:
                raise Interrupt

    sys.setprofile(look)
    try:
        call()
    except Interrupt:
        pass
    finally:
        sys.setprofile(None)
    return count > at


def unit(storage: Storage) -> None:
    with storage.unit() as together:
        together.kv.set("left", 1)
        together.kv.set("right", 1)


@pytest.mark.parametrize(
    "call",
    [lambda s: s.kv.set("a", 1), unit, lambda s: s.memory.recall("tea"), lambda s: s.kv.get("a")],
    ids=["write", "unit", "search", "read"],
)
def test_an_interrupt_anywhere_lets_others_write_and_read_what_is_new(
    storage: Storage, call: Callable[[Storage], Any]
) -> None:
    at = 0
    while interrupted(lambda: call(storage), at):
        at += 1
        assert answered(partial(storage.kv.set, "fresh", at)), f"hangs after {at}"
        assert storage.kv.get("fresh") == at, f"an old state is read after {at}"
    assert at > 5
    assert storage.kv.get("left") == storage.kv.get("right")


def test_an_interrupt_of_closing_anywhere_leaves_something_to_close(tmp_path: Path) -> None:
    at, struck = 0, True
    while struck:
        storage = holdfast.open(str(tmp_path / "a.db"))
        struck = interrupted(storage.close, at)
        assert answered(storage.close), f"hangs after {at}"
        at += 1
    assert at > 5


def interrupted_while_waiting(storage: Storage) -> None:
    """One thread holds the writer, another waits for it, and is interrupted there."""
    held, let_go = threading.Event(), threading.Event()

    def hold() -> None:
        with storage._driver.group():
            storage.kv.set("held", True)
            held.set()
            let_go.wait(PATIENCE_SECONDS)

    def wait(turn: Any) -> None:
        let_go.set()
        raise Interrupt

    holding = threading.Thread(target=hold, daemon=True)
    holding.start()
    held.wait(PATIENCE_SECONDS)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(writer._Turn, "wait", wait)
        with pytest.raises(Interrupt):
            storage.kv.set("a", 1)
    holding.join(PATIENCE_SECONDS)


def test_who_waits_and_is_interrupted_is_not_waited_for(storage: Storage) -> None:
    interrupted_while_waiting(storage)
    assert answered(lambda: storage.kv.set("b", 2))
    assert storage.kv.get("held") is True


def test_saboteur_of_interrupts_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer that takes no turn back hands over to a thread that has gone."""
    storage = holdfast.open(str(tmp_path / "a.db"))
    monkeypatch.setattr(writer.Writer, "_abandon", lambda *_: None)
    interrupted_while_waiting(storage)
    assert not answered(lambda: storage.kv.set("b", 2), SHORT_SECONDS)


def test_those_whose_leader_was_interrupted_are_told_so(storage: Storage) -> None:
    shared = storage._driver.below._writer  # type: ignore[attr-defined]
    errors: list[UnknownOutcome] = []

    def follow() -> None:
        with pytest.raises(UnknownOutcome) as told:
            storage.kv.set("follower", 1)
        errors.append(told.value)

    def strike(_: object) -> None:
        raise Interrupt

    follower = threading.Thread(target=follow, daemon=True)
    shared._leader = writer._Turn(writer._nothing, True)
    follower.start()
    while not shared._waiting:
        time.sleep(0.001)
    shared._leader = None
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(shared, "_commit_together", strike)
        with pytest.raises(Interrupt):
            shared.run(writer._nothing)
    follower.join(PATIENCE_SECONDS)
    assert len(errors) == 1


def test_what_sqlite_said_is_kept_as_the_cause(storage: Storage) -> None:
    def fail(_: apsw.Connection) -> None:
        raise apsw.FullError("the disk is full")

    with pytest.raises(StorageFull) as caught:
        storage._driver.below._writer.run(fail)  # type: ignore[attr-defined]
    assert isinstance(caught.value.__cause__, apsw.FullError)
