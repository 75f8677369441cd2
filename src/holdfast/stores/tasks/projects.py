"""Projects: named sets of tasks that are created together and counted together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from holdfast.core.change import ABSENT, Edit, Patch, Put
from holdfast.core.errors import Invalid, kind_of
from holdfast.core.filter import among, eq
from holdfast.core.query import Aggregate, asc
from holdfast.core.values import check_bool, check_count
from holdfast.stores.given import list_of
from holdfast.stores.store import Page, Store, builder
from holdfast.stores.tasks.records import PROJECTS, STATES, TASKS, Project, TaskDraft, new_task

CHILDREN_LIMIT = 1_000
"""Most tasks that a project may be created with."""

_project = builder(Project)


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a project is. ``by_state`` has every state; cancelled tasks are not to be done."""

    by_state: dict[str, int]
    total: int

    @property
    def fraction(self) -> float:
        """Completed tasks among those not cancelled, from 0 to 1; 0 without any."""
        wanted = self.total - self.by_state["cancelled"]
        return self.by_state["completed"] / wanted if wanted else 0.0


class Projects(Store):
    """Projects of the bound scope."""

    collections = (PROJECTS, TASKS)

    def create(
        self,
        name: str,
        *,
        description: str = "",
        group: str = "",
        metadata: dict[str, Any] | None = None,
        tasks: Sequence[TaskDraft] = (),
        op_id: str | None = None,
    ) -> Project:
        """Add a project together with its first tasks, all or none."""
        if not isinstance(name, str) or not name.strip():
            raise Invalid("name", expected="text that is not blank", got=kind_of(name))
        if metadata is not None and not isinstance(metadata, dict):
            raise Invalid("metadata", expected="a JSON object", got=kind_of(metadata))
        list_of("tasks", tasks, TaskDraft, 0, CHILDREN_LIMIT)
        now, scope, project_id = self._now(), self._scope_fields(), self._new_id()
        record = {
            **scope,
            "id": project_id,
            "name": name,
            "description": description,
            "group": group,
            "archived": False,
            "metadata": metadata or {},
            "created_at": now,
            "updated_at": now,
        }
        children = [
            new_task(draft, record_id=self._new_id(), scope=scope, now=now, project_id=project_id)
            for draft in tasks
        ]
        project = Put(PROJECTS.name, PROJECTS.check_record(record), ABSENT)
        puts = (Put(TASKS.name, child, ABSENT) for child in children)
        asked = ("projects.create", name, description, group, metadata, tuple(tasks))
        return _project(self._apply(project, *puts, op_id=op_id, asked=asked)[0].record)

    def get(self, project_id: str) -> Project | None:
        """The project, or None."""
        record = self._get(PROJECTS, project_id)
        return None if record is None else _project(record)

    def list(
        self,
        *,
        group: str | None = None,
        archived: bool | None = False,
        limit: int = 100,
        cursor: str | None = None,
    ) -> Page[Project]:
        """Projects by group, then oldest first, then by id. ``archived`` None asks for all."""
        return self._page(
            PROJECTS,
            _project,
            None if group is None else eq("group", group),
            None if archived is None else eq("archived", archived),
            order=asc("group", "created_at", "id"),
            limit=limit,
            cursor=cursor,
        )

    def archive(self, project_id: str, *, archived: bool = True) -> Project:
        """Take the project out of listings, or put it back; its tasks go on. NotFound."""
        check_bool("archived", archived)
        self._require(PROJECTS, project_id)
        edit = Edit(set={"archived": archived, "updated_at": self._now()})
        return _project(self._apply(Patch(PROJECTS.name, (project_id,), edit))[0].record)

    def progress(self, *project_ids: str) -> dict[str, Progress]:
        """The progress of each of these projects that is there, in one query."""
        check_count("project_ids", len(project_ids), 0, CHILDREN_LIMIT)
        found = {record["id"] for record in self._all(PROJECTS, among("id", project_ids))}
        counts: dict[str, dict[str, int]] = {
            known: dict.fromkeys(map(str, STATES), 0) for known in project_ids if known in found
        }
        by_state = Aggregate(
            collection=TASKS.name,
            filter=self._within(TASKS, among("project_id", sorted(found))),
            group_by=("project_id", "state"),
        )
        for row in self._driver.aggregate(self._scope.tenant, by_state):
            counts[row["project_id"]][row["state"]] = row["count"]
        return {
            known: Progress(by_state=dict(states), total=sum(states.values()))
            for known, states in counts.items()
        }
