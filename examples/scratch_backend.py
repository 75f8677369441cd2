"""A backend of your own: `scratch:name`, a store in memory that its openers share by name."""

from __future__ import annotations

import threading

from holdfast.backends.memory import MemoryDriver
from holdfast.core.capabilities import Capabilities, no
from holdfast.core.clock import Clock
from holdfast.core.driver import Driver, Health
from holdfast.core.errors import Invalid
from holdfast.layers.layer import Layer

_LOCK = threading.Lock()
_STORES: dict[str, MemoryDriver] = {}


def open_scratch(url: str, clock: Clock) -> Driver:
    """What the entry point names: a driver for a URL such as ``scratch:drafts``."""
    name = url.partition(":")[2]
    if not name:
        raise Invalid("url", expected="scratch: and a name", got="no name")
    return ScratchDriver(name, clock)


class ScratchDriver(Layer):
    """One opener's handle. It borrows its verbs from the reference engine; yours has its own."""

    def __init__(self, name: str, clock: Clock) -> None:
        with _LOCK:
            self.engine = _STORES.setdefault(name, MemoryDriver(clock))
        super().__init__(self.engine)
        self.name = "scratch"

    def offers(self, below: Capabilities) -> Capabilities:
        return Capabilities(
            durable=no("it lives in the memory of this process"),
            multi_process=no("another process cannot see this one's memory"),
            full_text=below.full_text,
            vectors=below.vectors,
            feed=no("nothing can follow a store that may be gone the next moment"),
            backup=no("there is no file to copy"),
            integrity=below.integrity,
            shared_commits=no("there is no commit to share"),
        )

    def health(self) -> Health:
        return Health(True, self.name, facts={"durability": "none"})

    def close(self) -> None:
        """The store stays for its other openers; what stands above refuses further calls."""
