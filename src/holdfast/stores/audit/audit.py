"""Audit: an append-only log whose entries are chained by hash, so that tampering shows.

There is a chain for each scope and stream. Its head, which holds count and last hash, betrays
a missing tail; an anchor kept elsewhere betrays a chain that was rewritten, head and all.
Writers are ordered by a condition on the head: who comes second reads again and repeats.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import chain as joined
from itertools import pairwise
from typing import Any, Final

import msgspec

from holdfast.core.change import ABSENT, Change, DeleteWhere, Edit, Patch, Put, When
from holdfast.core.errors import Conflict, Corrupt, IdempotencyMismatch, Invalid, kind_of
from holdfast.core.filter import Filter, Record, both, eq, gt, le
from holdfast.core.query import Aggregate, Query, asc, desc
from holdfast.core.values import check_count, check_json, check_keyed_text, check_text, check_time
from holdfast.stores.audit.records import (
    AUDIT,
    COLLECTIONS,
    GENESIS,
    HEADS,
    Anchor,
    AuditEntry,
    Chain,
    anchor_signature,
    canonical_json,
    entry_hash,
)
from holdfast.stores.audit.verify import TRIMMED, Fault, Verification, Walk
from holdfast.stores.given import check_op_id, list_of
from holdfast.stores.store import Page, Store, builder

APPEND_TRIES: Final = 1_000
"""How often an append is repeated when others write the same chain."""
BATCH_LIMIT: Final = 1_000
"""Most entries of one append."""
VERIFY_PAGE: Final = 500
"""Entries that verification holds in memory at once."""
_DIGEST: Final = re.compile("[0-9a-f]{64}")
_CHAIN: Final[tuple[str, ...]] = ("agent", "user", "namespace", "stream")

_entry = builder(AuditEntry)


class AuditEvent(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be recorded: who did what to which thing, and any JSON beside it."""

    action: str
    actor: str = ""
    subject: str = ""
    data: Any = None


class Audit(Store):
    """Chained entries of the bound scope."""

    collections = COLLECTIONS

    def append(
        self,
        action: str,
        *,
        actor: str = "",
        subject: str = "",
        data: Any = None,
        stream: str = "main",
        op_id: str | None = None,
    ) -> AuditEntry:
        """Record one event at the end of the chain."""
        event = AuditEvent(action=action, actor=actor, subject=subject, data=data)
        return self.append_many([event], stream=stream, op_id=op_id)[0]

    def append_many(
        self, events: Sequence[AuditEvent], *, stream: str = "main", op_id: str | None = None
    ) -> Sequence[AuditEntry]:
        """Record events in order, all or none; under many writers far cheaper than one by one.

        Raises Conflict after very many others came between, and Corrupt when an entry that this
        store did not write stands where the next one belongs.
        """
        list_of("events", events, AuditEvent, 1, BATCH_LIMIT)
        check_op_id(op_id)
        chain = self._chain(stream)
        contents = [_content(event) for event in events]
        asked = ("audit.append", chain, contents)
        for _ in range(APPEND_TRIES):
            head = self._get(HEADS, *chain)
            entries = self._chained(chain, head, contents, self._now())
            puts = (Put(AUDIT.name, entry, ABSENT) for entry in entries)
            moved = self._moved(chain, head, entries[-1])
            try:
                outcomes = self._apply(*puts, moved, op_id=op_id, asked=asked)
            except IdempotencyMismatch:
                raise
            except Conflict:
                if self._get(HEADS, *chain) == head:
                    raise _planted() from None
                continue
            return [_entry(outcome.record) for outcome in outcomes[:-1]]
        raise Conflict("Other writers kept extending this chain.", hint="Try again later.")

    def list(
        self,
        *,
        stream: str | None = None,
        actor: str | None = None,
        action: str | None = None,
        subject: str | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> Page[AuditEntry]:
        """Entries of all chains in view, newest first, ties by chain and seq, descending."""
        wanted = {"stream": stream, "actor": actor, "action": action, "subject": subject}
        parts = (eq(name, value) for name, value in wanted.items() if value is not None)
        return self._page(AUDIT, _entry, *parts, order=desc("at"), limit=limit, cursor=cursor)

    def verify(
        self, stream: str = "main", *, anchor: Anchor | None = None, key: bytes | None = None
    ) -> Verification:
        """Check every entry of this scope's chain, a page at a time, and name the first fault.

        Without an ``anchor`` a chain that was rewritten or removed together with its head looks
        sound. With ``key`` the anchor must carry that key's signature. An anchor before the
        trimmed part proves nothing any more: then ``anchored_seq`` is 0. Raises Invalid for an
        anchor of another chain or with a wrong signature.
        """
        chain = self._chain(stream)
        if anchor is not None:
            self._check_anchor(chain, anchor, key)
        elif key is not None:
            raise Invalid("anchor", expected="an anchor to check with the key", got="none")
        found = self._verified(chain, anchor)
        while found.fault is not None and self._was_trimmed(chain, found):
            found = self._verified(chain, anchor)
        return found

    def verify_all(self) -> Sequence[Verification]:
        """Check every chain in view, also those of narrower scopes, in order of their names."""
        chains = set()
        # Entries are asked as well: a chain whose head was removed must not go unseen.
        for shape in (AUDIT, HEADS):
            groups = Aggregate(
                collection=shape.name, filter=self._within(shape), group_by=_CHAIN, measures=()
            )
            for row in self._driver.aggregate(self._scope.tenant, groups):
                chains.add((row["agent"], row["user"], row["namespace"], row["stream"]))
        return [self._verified(chain, None) for chain in sorted(chains)]

    def export_anchor(self, stream: str = "main", *, key: bytes | None = None) -> Anchor:
        """The chain's end now, to be kept outside the store; signed when there is a ``key``.

        Raises NotFound for a chain without entries.
        """
        chain = self._chain(stream)
        secret = None if key is None else _check_key(key)
        head = self._require(HEADS, *chain)
        where = dict(zip(_CHAIN, chain, strict=True))
        tenant, now = self._scope.tenant, self._now()
        anchor = Anchor(tenant=tenant, **where, seq=head["seq"], hash=head["hash"], at=now)
        if secret is None:
            return anchor
        return msgspec.structs.replace(anchor, signature=anchor_signature(anchor, secret))

    def trim(self, through_seq: int, stream: str = "main") -> int:
        """Delete the entries up to this one; how many.

        The head keeps the last deleted hash, and an entry at the end of the chain vouches for
        it. Raises NotFound beyond the end, and Corrupt for a chain with a fault: trimming would
        hide it.
        """
        check_count("through_seq", through_seq, 1, 2**62)
        chain = self._chain(stream)
        for _ in range(APPEND_TRIES):
            head = self._require(HEADS, *chain)
            if through_seq <= head["trimmed_seq"]:
                return 0
            checkpoint = self._require(AUDIT, *chain, through_seq)["hash"]
            if not self.verify(stream).ok:
                raise Corrupt("The chain has a fault.", hint="See verify().")
            told = AuditEvent(action=TRIMMED, data={"seq": through_seq, "hash": checkpoint})
            [entry] = self._chained(chain, head, [_content(told)], self._now())
            trimmed = {"trimmed_seq": through_seq, "trimmed_hash": checkpoint}
            try:
                outcomes = self._apply(
                    DeleteWhere(AUDIT.name, both(_of(chain), le("seq", through_seq))),
                    Put(AUDIT.name, entry, ABSENT),
                    self._moved(chain, head, entry, **trimmed),
                )
            except Conflict:
                continue
            return outcomes[0].count
        raise Conflict("Other writers kept extending this chain.", hint="Try again later.")

    def _chain(self, stream: str) -> Chain:
        if not check_keyed_text("stream", stream):
            raise Invalid("stream", expected="a name", got="empty text")
        scope = self._scope_fields()
        return scope["agent"], scope["user"], scope["namespace"], stream

    def _chained(
        self, chain: Chain, head: Record | None, contents: Sequence[Record], now: datetime
    ) -> Sequence[Record]:
        seq, previous = (head["seq"], head["hash"]) if head else (0, GENESIS)
        where = dict(zip(_CHAIN, chain, strict=True))
        entries = []
        for place, content in enumerate(contents, start=seq + 1):
            entry = {**content, **where, "seq": place, "at": now, "previous_hash": previous}
            previous = entry["hash"] = entry_hash(self._scope.tenant, entry)
            entries.append(entry)
        return entries

    def _moved(self, chain: Chain, head: Record | None, last: Record, **trimmed: Any) -> Change:
        """The head's change to this last entry, on condition that it has not moved since."""
        tip = {"seq": last["seq"], "hash": last["hash"], **trimmed}
        if head is None:
            where = dict(zip(_CHAIN, chain, strict=True))
            fresh = {"trimmed_seq": 0, "trimmed_hash": GENESIS}
            return Put(HEADS.name, {**where, **fresh, **tip}, ABSENT)
        # Compared by content and not by revision, which a unit of work cannot foresee.
        unmoved = both(eq("seq", head["seq"]), eq("hash", head["hash"]))
        return Patch(HEADS.name, chain, Edit(set=tip), When(unmoved))

    def _verified(self, chain: Chain, anchor: Anchor | None) -> Verification:
        stored = self._driver.get(self._scope.tenant, HEADS.name, chain)
        where = dict(zip(_CHAIN, chain, strict=True))
        none = {"seq": 0, "hash": GENESIS, "trimmed_seq": 0, "trimmed_hash": GENESIS}
        head = stored or {**where, **none}
        walk = Walk(self._scope.tenant, head, () if anchor is None else (anchor.seq,))
        fault, entries = None, 0
        for row, following in pairwise(joined(self._entries(chain, head["seq"]), [None])):
            assert row is not None
            fault = walk.step(row, following)
            if fault is not None:
                break
            entries += 1
        fault = fault or walk.end() or self._beyond(chain, stored)
        anchored = 0
        if anchor is not None and fault is None and anchor.seq >= head["trimmed_seq"]:
            anchored = anchor.seq
            if anchor.seq > walk.seq:
                fault = Fault(walk.seq + 1, "tail missing")
            elif walk.hashes.get(anchor.seq) != anchor.hash:
                fault = Fault(anchor.seq, "rewritten")
        return Verification(
            **where,
            entries=entries,
            first_seq=head["trimmed_seq"] + 1,
            last_seq=walk.seq,
            hash=walk.hash,
            anchored_seq=0 if fault else anchored,
            fault=fault,
        )

    def _beyond(self, chain: Chain, head: Record | None) -> Fault | None:
        """An entry behind the head. Entries are written with the head, so one is a plant."""
        last = head["seq"] if head else 0
        for row in self._rows(chain, gt("seq", last), limit=1):
            now = self._driver.get(self._scope.tenant, HEADS.name, chain)
            if now is None:
                return Fault(row["seq"], "head missing")
            if now["seq"] < row["seq"]:
                return Fault(row["seq"], "inserted")
        return None

    def _was_trimmed(self, chain: Chain, found: Verification) -> bool:
        """Whether the chain was trimmed while it was being verified."""
        head = self._driver.get(self._scope.tenant, HEADS.name, chain)
        return head is not None and head["trimmed_seq"] >= found.first_seq

    def _entries(self, chain: Chain, last_seq: int) -> Iterator[Record]:
        after: Filter | None = None
        while True:
            rows = self._rows(chain, both(le("seq", last_seq), after), limit=VERIFY_PAGE)
            yield from rows
            if len(rows) < VERIFY_PAGE:
                return
            after = gt("seq", rows[-1]["seq"])

    def _rows(self, chain: Chain, where: Filter, *, limit: int) -> Sequence[Record]:
        found = both(_of(chain), where)
        query = Query(collection=AUDIT.name, filter=found, order=asc("seq"), limit=limit)
        return self._driver.query(self._scope.tenant, query).records

    def _check_anchor(self, chain: Chain, anchor: Anchor, key: bytes | None) -> None:
        if not isinstance(anchor, Anchor):
            raise Invalid("anchor", expected="an Anchor", got=kind_of(anchor))
        check_count("anchor.seq", anchor.seq, 1, 2**62)
        if not _DIGEST.fullmatch(check_text("anchor.hash", anchor.hash)):
            raise Invalid("anchor.hash", expected="64 hex digits", got="another text")
        check_time("anchor.at", anchor.at)
        check_text("anchor.signature", anchor.signature)
        of = (anchor.agent, anchor.user, anchor.namespace, anchor.stream)
        if (anchor.tenant, of) != (self._scope.tenant, chain):
            raise Invalid("anchor", expected="an anchor of this chain", got="another chain's")
        if key is not None:
            signature = anchor_signature(anchor, _check_key(key))
            if not hmac.compare_digest(signature.encode(), anchor.signature.encode()):
                raise Invalid("anchor", expected="this key's signature", got="another signature")


def _of(chain: Chain) -> Filter:
    return both(*(eq(part, value) for part, value in zip(_CHAIN, chain, strict=True)))


def _content(event: AuditEvent) -> Record:
    if not isinstance(event, AuditEvent):
        raise Invalid("events", expected="an AuditEvent", got=kind_of(event))
    action = check_text("action", event.action)
    if not action:
        raise Invalid("action", expected="a name", got="empty text")
    return {
        "actor": check_text("actor", event.actor),
        "action": action,
        "subject": check_text("subject", event.subject),
        "body": canonical_json(check_json("data", event.data)),
    }


def _planted() -> Corrupt:
    return Corrupt("An entry stands where the next one belongs.", hint="See verify().")


def _check_key(key: object) -> bytes:
    if not isinstance(key, bytes) or len(key) < 16:
        raise Invalid("key", expected="at least 16 bytes", got=kind_of(key))
    return key
