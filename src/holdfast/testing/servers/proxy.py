"""A link to a server that can be cut, stopped and slowed, also between COMMIT and its answer."""

from __future__ import annotations

import contextlib
import re
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Literal

CHUNK: Final = 65_536
COMMITTED: Final = re.compile(
    rb"C\x00\x00\x00.(?:COMMIT|INSERT|UPDATE|DELETE)[ 0-9]*\x00"
    rb"(?:(?!Z\x00\x00\x00\x05).)*Z\x00\x00\x00\x05I",
    re.DOTALL,
)
"""The server's messages that it has written, and that no transaction is open any more."""
COMMIT: Final = re.compile(rb"COMMIT\x00")
"""The end of the client's message that asks for it."""
SYNC: Final = re.compile(rb"S\x00\x00\x00\x04\Z")
"""The client's message that ends a batch, and commits one in which no transaction was begun."""
REMEMBERED: Final = 4096
"""Bytes of what went by, for a message that comes in two parts."""
RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)

Moment = Literal["commit asked", "batch asked", "commit answered"]
"""Before the server sees COMMIT, or the end of any batch, or after it has committed and before the
client learns of it.

What commits without the word, as a batch of its own, has the last two moments only."""
_Marks = dict[Moment, re.Pattern[bytes]]


class Proxy:
    """Listens on ``port`` and forwards to the server until it is told to misbehave."""

    def __init__(self, target: int, *, host: str = "127.0.0.1") -> None:
        self._target = (host, target)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.delay_seconds = 0.0
        self.links_made = 0
        self.commits_cut = 0
        self._flowing = threading.Event()
        self._flowing.set()
        self._refusing = False
        self._lock = threading.Lock()
        self._links: set[_Link] = set()
        self._doomed: list[Moment] = []
        self._gate = threading.Thread(target=self._accept, name="proxy", daemon=True)
        self._gate.start()

    def cut(self) -> int:
        """Reset every link as it is, and say how many there were."""
        with self._lock:
            links, self._links = self._links, set()
        for link in links:
            link.cut()
        return len(links)

    def cut_next_commit(self, moment: Moment) -> None:
        """Cut the link on which a commit comes by next; may be asked for several times."""
        with self._lock:
            self._doomed.append(moment)

    def freeze(self) -> None:
        """Forward nothing and close nothing, as a network that swallows every packet."""
        self._flowing.clear()

    def thaw(self) -> None:
        """Forward again, also what came meanwhile."""
        self._flowing.set()

    def refuse(self) -> None:
        """Reset what is connected and whatever connects from now on."""
        self._refusing = True
        self.cut()

    def allow(self) -> None:
        """Take connections again."""
        self._refusing = False

    def close(self) -> None:
        """End everything."""
        self._refusing = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        self.thaw()
        self._gate.join()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                if self._refusing:
                    raise ConnectionRefusedError
                server = socket.create_connection(self._target)
            except OSError:
                _reset(client)
                continue
            link = _Link(self, client, server)
            with self._lock:
                self._links.add(link)
                self.links_made += 1
            link.start()

    def _passes(self, moment: Moment) -> bool:
        """Whether a commit may go by at this moment; the first that may not uses up the order."""
        with self._lock:
            if moment not in self._doomed:
                return True
            self._doomed.remove(moment)
            self.commits_cut += 1
            return False

    def _forget(self, link: _Link) -> None:
        with self._lock:
            self._links.discard(link)

    def _wait(self) -> None:
        if self.delay_seconds:
            time.sleep(self.delay_seconds)
        self._flowing.wait()


class _Link:
    """One client's connection and the one to the server, a thread for each direction."""

    def __init__(self, proxy: Proxy, client: socket.socket, server: socket.socket) -> None:
        self._proxy = proxy
        self._client = client
        self._server = server
        for end in (client, server):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def start(self) -> None:
        asked: _Marks = {"commit asked": COMMIT, "batch asked": SYNC}
        answered: _Marks = {"commit answered": COMMITTED}
        asks, answers = (self._client, self._server, asked), (self._server, self._client, answered)
        for arguments in (asks, answers):
            threading.Thread(target=self._pump, args=arguments, daemon=True).start()

    def cut(self) -> None:
        _reset(self._client)
        _reset(self._server)

    def _pump(self, source: socket.socket, target: socket.socket, marks: _Marks) -> None:
        seen = b""
        with contextlib.suppress(OSError):
            while chunk := source.recv(CHUNK):
                self._proxy._wait()
                seen = seen[-REMEMBERED:] + chunk
                moments = [moment for moment, mark in marks.items() if mark.search(seen)]
                if moments:
                    if not all(map(self._proxy._passes, moments)):
                        break
                    seen = b""
                target.sendall(chunk)
        self._proxy._forget(self)
        self.cut()


def _reset(end: socket.socket) -> None:
    """Close at once and without a farewell; who waits on it in another thread wakes."""
    with contextlib.suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        end.shutdown(socket.SHUT_RD)
    end.close()


@contextmanager
def proxied(target: int) -> Iterator[Proxy]:
    """A proxy before a port of this machine, for the block."""
    proxy = Proxy(target)
    try:
        yield proxy
    finally:
        proxy.close()
