"""Who follows the journal, what they are told, and what all of them have passed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from holdfast.backends.postgres.binding import MARK
from holdfast.backends.postgres.functions import EVERY_TENANT, ONE_TENANT, lock_number
from holdfast.backends.postgres.internals import Internals
from holdfast.backends.postgres.wire import Wire
from holdfast.core.collection import REVISION
from holdfast.core.driver import FeedEntry, Report
from holdfast.core.errors import NotFound
from holdfast.core.filter import Record
from holdfast.core.values import Kind, Vector


def follow(internals: Internals, *, follower: str) -> Report:
    """Start a feed at the journal's present end; where it stands, if it was there already."""
    followers, journal = internals.table("holdfast_followers"), internals.table("holdfast_journal")
    schema = internals.pool.target.options.schema
    add = (
        f"INSERT INTO {followers} SELECT {MARK}, CASE WHEN is_called THEN last_value ELSE 0 END"
        f" FROM {journal}_position_seq ON CONFLICT DO NOTHING"
    )
    found = f"SELECT position FROM {followers} WHERE name = {MARK}"
    with internals.pool.wire() as wire:
        # Behind the commits under way, so that what they tell comes before this place.
        lock = f"SELECT pg_advisory_xact_lock({lock_number(schema, 'journal')})"
        results = wire.run([(lock, ()), (add, [follower]), (found, [follower])])
        stands = wire.rows(results[2])[0][0]
        # Whoever began to write before this follower was there has ended when this returns.
        wire.run([(f"SELECT pg_advisory_xact_lock({lock_number(schema, 'writers')})", ())])
    return Report("follow", True, {"position": stands})


def unfollow(internals: Internals, *, follower: str) -> Report:
    """Stop a feed; without any, the journal is emptied and off."""
    text = f"DELETE FROM {internals.table('holdfast_followers')} WHERE name = {MARK}"
    with internals.pool.wire() as wire:
        wire.run([(text, [follower])])
        dropped = _drop_passed(internals, wire)
    return Report("unfollow", True, {"dropped": dropped})


def trim(internals: Internals, *, follower: str, position: int) -> Report:
    """Remember how far a follower is, and drop what all have passed."""
    text = (
        f"UPDATE {internals.table('holdfast_followers')} SET position = {MARK} WHERE name = {MARK}"
    )
    with internals.pool.wire() as wire:
        if not wire.run([(text, [position, follower])])[0].command_tuples:
            raise NotFound("There is no such follower.", hint="Register it first.")
        dropped = _drop_passed(internals, wire)
    return Report("trim", True, {"dropped": dropped})


def _drop_passed(internals: Internals, wire: Wire) -> int:
    journal = internals.table("holdfast_journal")
    passed = (
        f"position <= (SELECT coalesce(min(position), 9223372036854775807)"
        f" FROM {internals.table('holdfast_followers')})"
    )
    listed = (f"SELECT DISTINCT tenant FROM {journal} WHERE {passed}", ())
    tenants = [row[0] for row in wire.rows(wire.run([(EVERY_TENANT, ()), listed])[1])]
    dropped = 0
    for tenant in tenants:
        delete = (f"DELETE FROM {journal} WHERE tenant = {MARK} AND {passed}", [tenant])
        dropped += wire.run([(ONE_TENANT, [tenant]), delete])[1].command_tuples or 0
    return dropped


def feed(
    internals: Internals, wire: Wire, *, follower: str, after: int, limit: int
) -> list[FeedEntry]:
    """Entries after a position; they are seen in the order of their commits."""
    known = f"SELECT FROM {internals.table('holdfast_followers')} WHERE name = {MARK}"
    entries = (
        "SELECT position, tenant, collection, key, revision, record, vectors, at, op_id"
        f" FROM {internals.table('holdfast_journal')} WHERE position > {MARK}"
        f" ORDER BY position LIMIT {MARK}"
    )
    commands = [(EVERY_TENANT, ()), (known, [follower]), (entries, [after, limit])]
    results = wire.run(commands)
    if not results[1].ntuples:
        raise NotFound("There is no such follower.", hint="Register it first.")
    return [_entry(internals, row) for row in wire.rows(results[2])]


def _entry(internals: Internals, row: tuple[Any, ...]) -> FeedEntry:
    place, tenant, name, key, revision, told, vectors, at, op_id = row
    collection = internals.planner.collections[name]
    kinds = {f.name: f.kind for f in collection.fields}
    record: Record | None = None
    if told is not None:
        record = {n: _told(kind, told[n]) for n, kind in kinds.items()}
        record[REVISION] = revision
        for field in collection.vectors:
            held = vectors[field]
            record[field] = None if held is None else _told_vector(*held)
    values = [_told(kinds[n], value) for n, value in zip(collection.key, key, strict=True)]
    return FeedEntry(place, tenant, name, tuple(values), revision, record, at, op_id)


def _told(kind: Kind, value: Any) -> Any:
    """A value in the journal's JSON, as its kind is kept."""
    if value is None:
        return None
    read = _TOLD.get(kind)
    return value if read is None else read(value)


_TOLD: Final[dict[Kind, Callable[[Any], Any]]] = {
    "time": lambda value: msgspec.convert(value, datetime).astimezone(UTC),
    "float": float,
    "bytes": lambda value: bytes.fromhex(value[2:]),
}


def _told_vector(space: str, data: str) -> Vector:
    if data.startswith("\\x"):
        return Vector(space, bytes.fromhex(data[2:]))
    import numpy  # here, so that a process that follows nothing does not load it

    return Vector(space, numpy.array(msgspec.json.decode(data), "<f4").tobytes())
