"""A limit to how long a caller waits for a model."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from holdfast.core.embedding import Embedder, EmbeddingKind, EmbeddingSpace
from holdfast.core.errors import Invalid, Timeout
from holdfast.core.values import check_float

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SHARE: Final = 20
"""Texts that the seconds are for; a longer batch has so much more time."""
LATE_LIMIT: Final = 8
"""Calls that may run on beyond their time; while so many do, no further one is begun."""
IDLE_SECONDS: Final = 10.0
"""How long a thread waits for its next call; to start one costs as much as a short embedding."""


class TimedEmbedder:
    """Another embedder, whose answer is waited for ``seconds`` per 20 texts, then ``Timeout``.

    A call cannot be ended from outside, so one that is late runs on by itself and its answer is
    thrown away; it holds up neither other calls nor the end of the process.
    """

    def __init__(self, embedder: Embedder, seconds: float) -> None:
        """``seconds`` is above 0, to 86,400."""
        if not 0.0 < check_float("embed_seconds", seconds) <= 86_400.0:
            raise Invalid("embed_seconds", expected="seconds above 0", got=repr(seconds))
        self._embedder = embedder
        self._seconds = seconds
        self._late = 0
        self._idle: list[_Worker] = []
        self._counting = threading.Lock()

    def __getattr__(self, name: str) -> Any:
        """Whatever else the embedder offers."""
        if name == "embed_packed":  # a second way to embed, past the clock
            raise AttributeError(name)
        return getattr(self._embedder, name)

    @property
    def space(self) -> EmbeddingSpace:
        """The space of the embedder behind it."""
        return self._embedder.space

    def embed(self, texts: Sequence[str], kind: EmbeddingKind = "document") -> NDArray[np.float32]:
        """Return what the embedder returns, and raise what it raises; ``Timeout`` when it is late.

        ``Timeout`` at once while 8 calls are late already.
        """
        if self._late >= LATE_LIMIT:
            raise Timeout("The embedder has not answered earlier calls.")
        call = _Call(lambda: self._embedder.embed(texts, kind))
        with self._counting:
            worker = self._idle.pop() if self._idle else None
        if worker is None:
            worker = _Worker()
            name = f"holdfast-embed-{self._embedder.space.model}"
            threading.Thread(target=self._work, args=(worker,), name=name, daemon=True).start()
        worker.put(call)
        call.done.wait(self._seconds * max(1, -(-len(texts) // SHARE)))
        with self._counting:
            call.late = not call.done.is_set()
            self._late += call.late
        if call.late:
            raise Timeout("The embedder did not answer in time.", hint="See embed_seconds.")
        if call.error is not None:
            raise call.error
        assert call.rows is not None
        return call.rows

    def _work(self, worker: _Worker) -> None:
        while True:
            try:
                call = worker.get(timeout=IDLE_SECONDS)
            except queue.Empty:
                with self._counting:
                    if worker in self._idle:
                        self._idle.remove(worker)
                        return
                continue  # somebody has just taken it, and its call is about to come
            self._run(call, worker)
            del call  # and with it the texts and their vectors

    def _run(self, call: _Call, worker: _Worker) -> None:
        try:
            call.rows = call.work()
        except BaseException as error:  # noqa: BLE001
            call.error = error  # raised again where the caller waits
        with self._counting:
            call.done.set()
            self._late -= call.late
            self._idle.append(worker)


class _Call:
    """One call, and what came of it."""

    def __init__(self, work: Callable[[], NDArray[np.float32]]) -> None:
        self.work = work
        self.done = threading.Event()
        self.late = False
        self.rows: NDArray[np.float32] | None = None
        self.error: BaseException | None = None


_Worker = queue.SimpleQueue[_Call]
"""What hands calls to a thread, one at a time."""
