"""Key-value: any JSON under a name, with versions, compare-and-set, prefixes and expiry.

A null value differs from a missing key. An expired entry is invisible at once, swept later.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec

from holdfast.core.change import (
    ABSENT,
    Condition,
    Delete,
    DeleteWhere,
    Outcome,
    Put,
    Revision,
    When,
)
from holdfast.core.clock import shifted
from holdfast.core.collection import REVISION, Collection, Index
from holdfast.core.driver import Driver
from holdfast.core.errors import Conflict, Invalid, NotFound, kind_of
from holdfast.core.filter import Filter, Prefix, Record, both, either, eq, gt, is_null, le, not_null
from holdfast.core.marks import halved
from holdfast.core.query import asc
from holdfast.core.runtime import Runtime
from holdfast.core.scope import Scope
from holdfast.core.values import check_count, check_json, check_seconds, check_text
from holdfast.stores.given import check_function, check_op_id
from holdfast.stores.store import Page, Store, builder

UPDATE_TRIES: Final = 1_000
"""How often ``update`` repeats when others write the same key."""


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One key and its value. ``version`` counts the key's writes from 1."""

    key: str
    value: Any
    created_at: datetime
    updated_at: datetime
    expires_at: datetime | None
    agent: str
    user: str
    namespace: str
    revision: int = 0

    @property
    def version(self) -> int:
        """The number to pass as ``expected_version``."""
        return self.revision


ENTRIES = Collection.of(
    Entry,
    "entries",
    key=("agent", "user", "namespace", "key"),
    indexes=(
        Index(("agent", "user", "namespace", "key"), serves="list by prefix in key order"),
        Index(("expires_at",), serves="sweep of expired entries", where=not_null("expires_at")),
    ),
    ttl="expires_at",
    version=2,
)

COLLECTIONS: Final = (ENTRIES,)

_entry = builder(Entry)


class KeyValue(Store):
    """Named JSON values of the bound scope."""

    collections = COLLECTIONS

    def __init__(self, driver: Driver, scope: Scope, runtime: Runtime) -> None:
        super().__init__(driver, scope, runtime)
        self._place = tuple(self._scope_fields().values())

    def get(self, key: str, default: Any = None) -> Any:
        """The value, or ``default`` when there is no live entry."""
        record = self._live(key)
        return default if record is None else record["value"]

    def entry(self, key: str) -> Entry | None:
        """The live entry with its version and times, or None."""
        record = self._live(key)
        return None if record is None else _entry(record)

    @halved("expected_version", "op_id")
    def set(
        self,
        key: str,
        value: Any,
        *,
        expected_version: int | None = None,
        ttl_seconds: float | None = None,
        op_id: str | None = None,
    ) -> Entry:
        """Write the value and return the entry.

        With ``expected_version`` (0: the key must not exist) another's write in between raises
        Conflict. ``ttl_seconds`` makes the entry expire.
        """
        lasting = None if ttl_seconds is None else _ttl(ttl_seconds)
        asked = ("kv.set", key, value, expected_version, lasting)
        if expected_version is not None:
            check_count("expected_version", expected_version, 0, 2**62)
        value = check_json("value", value)
        check_op_id(op_id)
        held = self._stored(key)
        expires_at = None if lasting is None else shifted(self._now(), lasting)
        put = self._put(key, value, held, expires_at, expected_version)
        if expected_version is None and op_id is None:
            return self._perform([put], _written, lambda _: None)
        try:
            return _entry(self._apply(put, op_id=op_id, asked=asked)[0].record)
        except NotFound:
            raise Conflict("There is no such key any more.", hint="Read it again.") from None

    def update(self, key: str, change: Callable[[Any], Any]) -> Entry:
        """Replace the value by ``change(value)`` atomically; a missing value is None.

        An expiry stays as it is. ``change`` may run again when another writer came between, so
        it must have no effects.
        """
        check_function("change", change, needed=True)
        for _ in range(UPDATE_TRIES):
            held = self._stored(key)
            live = held if self._lives(held) else None
            value = check_json("value", change(None if live is None else live["value"]))
            version = 0 if live is None else live["revision"]
            expires_at = None if live is None else live["expires_at"]
            put = self._put(key, value, held, expires_at, version)
            try:
                return _entry(self._apply(put)[0].record)
            except (Conflict, NotFound):
                continue
        raise Conflict("Other writers kept changing this key.", hint="Try again later.")

    def get_or_compute(
        self, key: str, compute: Callable[[], Any], *, ttl_seconds: float | None = None
    ) -> Any:
        """The live value, else ``compute()`` stored.

        Among the threads that share one opened storage ``compute`` runs once: the others wait
        and get its value, and the next of them computes when it raised. Between processes it
        may run once in each; one value is stored, and all get that one.
        """
        check_function("compute", compute, needed=True)
        if ttl_seconds is not None:
            _ttl(ttl_seconds)
        held = self.entry(key)
        if held is not None:
            return held.value
        with self._runtime.locks.hold((self._scope.tenant, *self._key(key))):
            held = self.entry(key)
            if held is not None:
                return held.value
            value = compute()
            try:
                return self.set(key, value, expected_version=0, ttl_seconds=ttl_seconds).value
            except Conflict:
                held = self.entry(key)
                return value if held is None else held.value

    def delete(self, key: str, *, op_id: str | None = None) -> bool:
        """Remove the entry; whether a live one existed.

        A repeat with the same ``op_id`` gives the first answer.
        """
        check_op_id(op_id)
        held = self._live(key)
        gone = Delete(ENTRIES.name, self._key(key))
        if op_id is None:
            return self._apply(gone)[0].count > 0 and held is not None
        # A repeat finds nothing any more, so that the first call's own outcome must say it.
        mine = both(*map(eq, ENTRIES.key, gone.key), self._unexpired())
        live = DeleteWhere(ENTRIES.name, mine)
        return self._apply(live, gone, op_id=op_id, asked=("kv.delete", key))[0].count > 0

    def list(self, prefix: str = "", *, limit: int = 100, cursor: str | None = None) -> Page[Entry]:
        """Live entries whose key begins with ``prefix``, by key."""
        check_text("prefix", prefix)
        return self._page(
            ENTRIES,
            _entry,
            Prefix("key", prefix),
            moving=self._unexpired(),
            order=asc("key", "agent", "user", "namespace"),
            limit=limit,
            cursor=cursor,
        )

    def sweep(self, *, limit: int = 10_000) -> int:
        """Delete expired entries, oldest expiry first; how many."""
        check_count("limit", limit, 1, 1_000_000)
        expired = self._within(ENTRIES, le("expires_at", self._now()))
        doomed = DeleteWhere(ENTRIES.name, expired, limit, asc("expires_at"))
        return self._apply(doomed)[0].count

    def _key(self, key: str) -> tuple[str, ...]:
        return (*self._place, key)

    def _stored(self, key: str) -> Record | None:
        if not isinstance(key, str) or not key:
            raise Invalid("key", expected="text of at least one character", got=kind_of(key))
        return self._get(ENTRIES, *self._key(key))

    def _live(self, key: str) -> Record | None:
        record = self._stored(key)
        return record if self._lives(record) else None

    def _lives(self, record: Record | None) -> bool:
        if record is None:
            return False
        expires_at = record["expires_at"]
        return expires_at is None or expires_at > self._now()

    def _unexpired(self) -> Filter:
        return either(is_null("expires_at"), gt("expires_at", self._now()))

    def _put(
        self,
        key: str,
        value: Any,
        held: Record | None,
        expires_at: datetime | None,
        expected_version: int | None,
    ) -> Put:
        now = self._now()
        created_at = held["created_at"] if held and self._lives(held) else now
        record = {
            "key": key,
            "value": value,
            "created_at": created_at,
            "updated_at": now,
            "expires_at": expires_at,
            **self._own_fields,
        }
        return Put(ENTRIES.name, record, self._expectation(held, expected_version))

    def _expectation(self, held: Record | None, version: int | None) -> Condition | None:
        if version is None:
            return None
        if version:
            # An expired entry is no entry, so its version is nobody's to expect.
            return When(both(eq(REVISION, version), self._unexpired()))
        if held is not None and not self._lives(held):
            return Revision(held["revision"])
        return ABSENT


def _written(outcomes: list[Outcome]) -> Entry:
    return _entry(outcomes[0].record)


def _ttl(seconds: float) -> timedelta:
    return timedelta(seconds=check_seconds("ttl_seconds", seconds, 1e-6, 1e10))
