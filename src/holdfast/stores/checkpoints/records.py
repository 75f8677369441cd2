"""Checkpoints, and the logs that hold the bytes which several of them share.

A checkpoint's state is written down as spans: stretches of logs, and of the few bytes that stand
in the checkpoint itself. A log only ever grows, so that a span means the same bytes for ever, and
it counts how many checkpoints use it, so that the last of them takes it along.
"""

from datetime import datetime
from typing import Any, Final, Literal

import msgspec

from holdfast.core.collection import Collection, Index, Reference, Sequence

LANE: Final = ("agent", "user", "namespace", "session_id")
"""Whose checkpoints follow each other."""


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a saved state; ``size`` counts its bytes.

    ``sequence`` counts the saves of its session from 1. ``forked_from`` is the id of the
    checkpoint that this one was forked from, which may be gone.
    """

    id: str
    session_id: str
    iteration: int
    sequence: int
    metadata: dict[str, Any]
    size: int
    forked_from: str | None
    saved_at: datetime
    agent: str
    user: str
    namespace: str
    revision: int = 0


class LoadedCheckpoint(Checkpoint, frozen=True, kw_only=True):
    """A checkpoint with the bytes that were saved."""

    state: bytes


class StoredCheckpoint(msgspec.Struct, frozen=True, kw_only=True):
    """A checkpoint as it is kept.

    ``spans`` are ``[place in logs, start, length]``; place -1 stands for ``rest``, the bytes
    that are this checkpoint's alone. ``checksum`` is the CRC-32 of a state that is not too large.
    """

    id: str
    session_id: str
    iteration: int
    sequence: int
    metadata: dict[str, Any]
    size: int
    forked_from: str | None
    logs: list[str]
    spans: Any
    rest: bytes
    rest_size: int
    saved_at: datetime
    agent: str
    user: str
    namespace: str
    checksum: int | None = None
    revision: int = 0


class Log(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes that only grow. ``tip`` changes with every append, ``uses`` counts checkpoints.

    Up to ``packed`` its bytes stand in long stretches.
    """

    id: str
    tip: str
    size: int
    appends: int
    uses: int
    agent: str
    user: str
    namespace: str
    packed: int = 0
    revision: int = 0


class Stretch(msgspec.Struct, frozen=True, kw_only=True):
    """The bytes of a log from ``start`` to before ``stop``; ``checksum`` is their CRC-32."""

    log_id: str
    start: int
    stop: int
    encoding: Literal["raw", "zlib"]
    checksum: int
    data: bytes
    revision: int = 0


class CheckpointStats(msgspec.Struct, frozen=True, kw_only=True):
    """How many there are, the bytes of their states, and the bytes that these take.

    ``stored_bytes`` is before compression, and without indexes and metadata.
    """

    checkpoints: int
    state_bytes: int
    stored_bytes: int
    logs: int


CHECKPOINTS: Final = Collection.of(
    StoredCheckpoint,
    "checkpoints",
    indexes=(
        Index((*LANE, "iteration", "sequence", "id"), serves="latest, list and prune of a session"),
    ),
    sequences=(Sequence("sequence", per=LANE),),
    version=2,
)

LOGS: Final = Collection.of(
    Log,
    "checkpoint_logs",
    indexes=(Index(("agent", "user", "namespace"), serves="stats of a scope"),),
    version=2,
)

STRETCHES: Final = Collection.of(
    Stretch,
    "checkpoint_stretches",
    key=("log_id", "start"),
    references=(Reference("log_id", LOGS.name, "cascade"),),
)

COLLECTIONS: Final = (LOGS, STRETCHES, CHECKPOINTS)
