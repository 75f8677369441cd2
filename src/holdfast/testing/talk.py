"""States of conversations as they grow, for cases about checkpoints, and what is kept of them."""

from __future__ import annotations

import json
import random
from typing import Final

from holdfast.core.collection import Collection
from holdfast.core.driver import Driver
from holdfast.core.filter import Record
from holdfast.core.query import Query
from holdfast.storage import Storage
from holdfast.stores.checkpoints.records import CHECKPOINTS, LOGS, STRETCHES

MIXED: Final = bytes(range(256)) * 20


def rows(driver: Driver, shape: Collection) -> list[Record]:
    """All that is kept of a shape."""
    driver.setup((CHECKPOINTS, LOGS, STRETCHES))
    return driver.query("default", Query(collection=shape.name)).records


def taken(driver: Driver) -> int:
    """Bytes that states and their layouts take, in all three tables."""
    own = sum(
        len(row["rest"]) + len(json.dumps([row["spans"], row["logs"]]))
        for row in rows(driver, CHECKPOINTS)
    )
    return own + sum(len(row["data"]) for row in rows(driver, STRETCHES))


def talk(steps: int, *, seed: int = 1, words: int = 100) -> list[bytes]:
    """A conversation as it grows: the state after every step, with a counter at its head."""
    rng = random.Random(seed)
    messages: list[dict[str, str]] = []
    states = []
    for step in range(steps):
        text = " ".join(f"{rng.getrandbits(24):x}" for _ in range(words))
        messages.append({"role": "user", "content": text})
        states.append(json.dumps({"step": step, "messages": messages, "done": False}).encode())
    return states


def whole(storage: Storage, states: dict[str, bytes]) -> None:
    """Every checkpoint has the state that was saved under its id."""
    for checkpoint_id, state in states.items():
        loaded = storage.checkpoints.load(checkpoint_id)
        assert loaded is not None
        assert loaded.state == state
        assert loaded.size == len(state)
