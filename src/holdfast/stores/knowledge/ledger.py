"""The ledger: what was last seen of each item of a source, so that the unchanged is skipped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from holdfast.core.change import DeleteWhere, Put
from holdfast.core.filter import among, eq, is_null, not_null
from holdfast.core.marks import grouped
from holdfast.core.query import asc
from holdfast.core.values import check_bool, check_text, check_texts
from holdfast.stores.knowledge.base import KnowledgeStore
from holdfast.stores.knowledge.fields import check_name
from holdfast.stores.knowledge.records import LEDGER, LedgerEntry
from holdfast.stores.store import Page, builder

_build = builder(LedgerEntry)


class Ledger(KnowledgeStore):
    """The ledger of the bound scope."""

    @grouped
    def note(
        self,
        source: str,
        item: str,
        fingerprint: str,
        *,
        document_id: str | None = None,
        error: str | None = None,
        run_id: str | None = None,
    ) -> LedgerEntry:
        """Write down what was seen of an item, in place of what was before.

        ``fingerprint`` is equal as long as the item is unchanged. ``error`` says why no document
        could be made of it.
        """
        row: dict[str, Any] = {
            **self._scope_fields(),
            "source": check_name("source", source),
            "item": check_name("item", item),
            "fingerprint": check_name("fingerprint", fingerprint),
            "document_id": None if document_id is None else check_name("document_id", document_id),
            "error": None if error is None else check_text("error", error, 2_000),
            "run_id": None if run_id is None else check_name("run_id", run_id),
            "seen_at": self._now(),
        }
        return _build(self._apply(Put(LEDGER.name, row))[0].record)

    def get(self, source: str, item: str) -> LedgerEntry | None:
        """What was last seen of the item, or None."""
        named = {"source": check_name("source", source), "item": check_name("item", item)}
        key = {**self._scope_fields(), **named}
        found = self._get(LEDGER, *(key[name] for name in LEDGER.key))
        return None if found is None else _build(found)

    def list(
        self,
        *,
        source: str | None = None,
        failed: bool | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> Page[LedgerEntry]:
        """Entries by source, then item. ``failed`` asks for those with an error, or without."""
        wanted = None
        if failed is not None:
            wanted = not_null("error") if check_bool("failed", failed) else is_null("error")
        return self._page(
            LEDGER,
            _build,
            None if source is None else eq("source", check_name("source", source)),
            wanted,
            order=asc("source", "item"),
            limit=limit,
            cursor=cursor,
        )

    @grouped
    def forget(self, source: str, items: Sequence[str]) -> int:
        """Strike items out, so that they count as never seen; how many there were."""
        wanted = among("item", check_texts("items", items))
        mine = self._within(LEDGER, eq("source", check_name("source", source)), wanted)
        return self._apply(DeleteWhere(LEDGER.name, mine))[0].count
