"""Whether a read must see what is newest, for engines that may read from a copy that lags."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_asked: ContextVar[bool] = ContextVar("holdfast_fresh_reads", default=False)


@contextmanager
def fresh_reads() -> Iterator[None]:
    """Reads in this block go where writes go."""
    token = _asked.set(True)
    try:
        yield
    finally:
        _asked.reset(token)


def fresh_is_asked() -> bool:
    """Whether the caller is in such a block."""
    return _asked.get()
