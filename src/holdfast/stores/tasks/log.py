"""The log of a task: lines in the order in which they were written, gone with their task."""

from __future__ import annotations

from typing import Any

from holdfast.core.change import Put
from holdfast.core.filter import eq
from holdfast.core.marks import grouped
from holdfast.core.query import asc
from holdfast.core.values import check_json, check_text
from holdfast.stores.given import check_page
from holdfast.stores.store import Page, Store, builder
from holdfast.stores.tasks.records import TASK_LOGS, TASKS, LogLine

_line = builder(LogLine)


class TaskLog(Store):
    """Log lines of tasks of the bound scope."""

    collections = (TASKS, TASK_LOGS)

    @grouped
    def append(self, task_id: str, message: str, *, data: Any = None) -> LogLine:
        """Add a line to a task's log, in any state of the task; NotFound without the task."""
        check_text("message", message)
        record = {
            "id": self._new_id(),
            "task_id": task_id,
            "seq": None,
            "at": self._now(),
            "message": message,
            "data": check_json("data", data),
        }
        task = self._require(TASKS, task_id)
        scope = {part: task[part] for part in ("agent", "user", "namespace")}
        return _line(self._apply(Put(TASK_LOGS.name, {**record, **scope}))[0].record)

    def list(self, task_id: str, *, limit: int = 100, cursor: str | None = None) -> Page[LogLine]:
        """A task's lines in order; NotFound without the task."""
        check_page(limit, cursor)
        self._require(TASKS, task_id)
        return self._page(
            TASK_LOGS,
            _line,
            eq("task_id", task_id),
            order=asc("seq"),
            limit=limit,
            cursor=cursor,
        )
