"""Key-value: any JSON under a name, with versions, compare-and-set, prefixes and expiry.

A null value differs from a missing key. An expired entry is invisible at once, swept later.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec

from holdfast.core.change import ABSENT, Condition, Delete, DeleteWhere, Put, Revision
from holdfast.core.collection import Collection, Index
from holdfast.core.errors import Conflict, Invalid
from holdfast.core.filter import Filter, Prefix, Record, either, gt, is_null, le
from holdfast.core.marks import grouped
from holdfast.core.query import asc
from holdfast.core.values import check_count, check_text
from holdfast.stores.store import Page, Store

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
        Index(("expires_at",), serves="sweep of expired entries"),
    ),
    ttl="expires_at",
)


class KeyValue(Store):
    """Named JSON values of the bound scope."""

    collections = (ENTRIES,)

    def get(self, key: str, default: Any = None) -> Any:
        """The value, or ``default`` when there is no live entry."""
        entry = self.entry(key)
        return default if entry is None else entry.value

    def entry(self, key: str) -> Entry | None:
        """The live entry with its version and times, or None."""
        record = self._live(key)
        return None if record is None else Entry(**record)

    @grouped
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
        now = self._now()
        held = self._require_key(key)
        record = {
            **self._scope_fields(),
            "key": key,
            "value": value,
            "created_at": now if held is None else held["created_at"],
            "updated_at": now,
            "expires_at": None if ttl_seconds is None else now + _ttl(ttl_seconds),
        }
        when: Condition | None = None
        if expected_version is not None:
            when = self._expectation(held, expected_version)
        asked = ("kv.set", key, value, expected_version, ttl_seconds)
        put = Put(ENTRIES.name, record, when)
        return Entry(**self._apply(put, op_id=op_id, asked=asked)[0].record)

    def update(self, key: str, change: Callable[[Any], Any]) -> Entry:
        """Replace the value by ``change(value)`` atomically; a missing value is None.

        ``change`` may run again when another writer came between, so it must have no effects.
        """
        for _ in range(UPDATE_TRIES):
            held = self.entry(key)
            value = change(None if held is None else held.value)
            try:
                return self.set(key, value, expected_version=held.version if held else 0)
            except Conflict:
                continue
        raise Conflict("Other writers kept changing this key.", hint="Try again later.")

    def get_or_compute(
        self, key: str, compute: Callable[[], Any], *, ttl_seconds: float | None = None
    ) -> Any:
        """The live value, else ``compute()`` stored; of several callers one value wins for all."""
        held = self.entry(key)
        if held is not None:
            return held.value
        try:
            return self.set(key, compute(), expected_version=0, ttl_seconds=ttl_seconds).value
        except Conflict:
            return self.get(key)

    @grouped
    def delete(self, key: str) -> bool:
        """Remove the entry; whether a live one existed."""
        held = self._live(key)
        return self._apply(Delete(ENTRIES.name, self._key(key)))[0].count > 0 and held is not None

    def list(self, prefix: str = "", *, limit: int = 100, cursor: str | None = None) -> Page[Entry]:
        """Live entries whose key begins with ``prefix``, by key."""
        check_text("prefix", prefix)
        return self._page(
            ENTRIES,
            lambda record: Entry(**record),
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
        return (*self._scope_fields().values(), key)

    def _require_key(self, key: str) -> Record | None:
        if not isinstance(key, str) or not key:
            raise Invalid("key", expected="text of at least one character", got=key)
        return self._get(ENTRIES, *self._key(key))

    def _live(self, key: str) -> Record | None:
        record = self._require_key(key)
        expires_at = None if record is None else record["expires_at"]
        return None if expires_at is not None and expires_at <= self._now() else record

    def _unexpired(self) -> Filter:
        return either(is_null("expires_at"), gt("expires_at", self._now()))

    def _expectation(self, held: Record | None, version: int) -> Condition:
        check_count("expected_version", version, 0, 2**62)
        expired = held is not None and self._live(held["key"]) is None
        if version == 0 and held is not None and expired:
            return Revision(held["revision"])
        return ABSENT if version == 0 else Revision(version)


def _ttl(seconds: float) -> timedelta:
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds < 1e10:
        raise Invalid("ttl_seconds", expected="seconds above 0", got=seconds)
    return timedelta(seconds=seconds)
