"""What stores are given besides a driver: time, ids and the parts of recall."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from holdfast.core.clock import Clock, Ids, SystemClock, Uuid7Ids
from holdfast.core.keyed_locks import KeyedLocks

if TYPE_CHECKING:
    from holdfast.core.embedding import Embedder, LateReader, Reranker
    from holdfast.core.ranker import Ranker


class Runtime(msgspec.Struct, frozen=True, eq=False):
    """Injected parts. Stores read no clock, make no id and load no model by themselves."""

    clock: Clock = msgspec.field(default_factory=SystemClock)
    ids: Ids = msgspec.field(default_factory=Uuid7Ids)
    locks: KeyedLocks = msgspec.field(default_factory=KeyedLocks)
    embedder: Embedder | None = None
    reranker: Reranker | None = None
    late: LateReader | None = None
    ranker: Ranker | None = None
