"""Ingest runs: each passage over a source, what came of it, and where the next one goes on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from holdfast.core.change import ABSENT, Edit, Patch, Put, When
from holdfast.core.errors import Conflict, Invalid, NotFound, kind_of
from holdfast.core.filter import eq, not_null
from holdfast.core.marks import grouped
from holdfast.core.query import asc, desc
from holdfast.core.values import check_count, check_text
from holdfast.stores.knowledge.base import TRIES, KnowledgeStore
from holdfast.stores.knowledge.fields import check_name
from holdfast.stores.knowledge.records import RUNS, IngestRun, RunStatus
from holdfast.stores.store import Page, builder, one_of

COUNT_LIMIT: Final = 2**53

_build = builder(IngestRun)


class Runs(KnowledgeStore):
    """The ingest runs of the bound scope."""

    @grouped
    def put(
        self,
        source: str,
        *,
        run_id: str | None = None,
        status: RunStatus = "running",
        cursor: str | None = None,
        counts: Mapping[str, int] | None = None,
        error: str | None = None,
    ) -> IngestRun:
        """Note a run, or how the one with this id stands now: all but its start is written anew.

        ``cursor`` says how far it came; cursors compare as text, so write instants in ISO form
        and numbers with leading zeros. Conflict when another scope or source has the id.
        """
        name = None if run_id is None else check_name("run_id", run_id)
        now = self._now()
        stated: dict[str, Any] = {
            "status": one_of("status", status, RunStatus),
            "cursor": None if cursor is None else check_name("cursor", cursor),
            "counts": _counts(counts),
            "error": None if error is None else check_text("error", error, 2_000),
            "finished_at": None if status == "running" else now,
            "updated_at": now,
        }
        row = {"id": name or self._new_id(), "source": check_name("source", source)}
        fresh = {**row, **stated, **self._scope_fields(), "started_at": now}
        mine = When(self._within(RUNS, eq("source", source)))
        for _ in range(TRIES):
            if name is None or self._get(RUNS, name) is None:
                change: Put | Patch = Put(RUNS.name, fresh, ABSENT)
            else:
                change = Patch(RUNS.name, (name,), Edit(set=stated), mine)
            try:
                return _build(self._apply(change)[0].record)
            except NotFound:
                continue  # deleted in between
            except Conflict:
                if isinstance(change, Patch) or self._get(RUNS, row["id"]) is None:
                    raise
        raise Conflict("Other writers kept changing this run.", hint="Try again later.")

    def get(self, run_id: str) -> IngestRun | None:
        """The run, or None."""
        found = self._get(RUNS, check_name("run_id", run_id))
        return None if found is None else _build(found)

    def list(
        self,
        *,
        source: str | None = None,
        status: RunStatus | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> Page[IngestRun]:
        """Runs, oldest first, ties by id. Limit 1 to 1000."""
        return self._page(
            RUNS,
            _build,
            None if source is None else eq("source", check_name("source", source)),
            None if status is None else eq("status", one_of("status", status, RunStatus)),
            order=asc("started_at", "id"),
            limit=limit,
            cursor=cursor,
        )

    def cursor(self, source: str) -> str | None:
        """Where to go on: the greatest cursor among the source's succeeded runs; None without."""
        succeeded = eq("status", "succeeded")
        wanted = (eq("source", check_name("source", source)), succeeded, not_null("cursor"))
        found = self._first(RUNS, *wanted, order=desc("cursor"))
        return None if found is None else found["cursor"]

    @grouped
    def delete(self, run_id: str) -> bool:
        """Forget the run; whether there was one."""
        return self._drop(RUNS, check_name("run_id", run_id))


def _counts(counts: object) -> dict[str, int]:
    if counts is None:
        return {}
    if not isinstance(counts, Mapping):
        raise Invalid("counts", expected="an object of numbers", got=kind_of(counts))
    return {
        check_name("counts", name): check_count(f"counts.{name}", number, 0, COUNT_LIMIT)
        for name, number in counts.items()
    }
