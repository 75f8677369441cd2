"""Projects: I8."""

from __future__ import annotations

import pytest

from holdfast.core.errors import Conflict, Invalid, NotFound
from holdfast.storage import Storage
from holdfast.stores.tasks.records import TaskDraft, TaskFilter


class TestProjects:
    def test_i8_project_and_children_are_created_together(self, storage: Storage) -> None:
        drafts = [TaskDraft(title=f"step {n}") for n in range(3)]
        project = storage.projects.create("p", group="g", tasks=drafts)
        tasks = storage.tasks.list(TaskFilter(project_id=project.id))
        assert [task.title for task in tasks] == ["step 0", "step 1", "step 2"]
        assert storage.projects.get(project.id) == project

    def test_i8_one_bad_child_leaves_nothing(self, storage: Storage) -> None:
        with pytest.raises(Invalid):
            storage.projects.create("p", tasks=[TaskDraft(title="good"), TaskDraft(title="")])
        assert len(storage.projects.list()) == 0
        assert storage.tasks.counts()["total"] == 0

    def test_i8_progress_counts_by_state(self, storage: Storage) -> None:
        drafts = [TaskDraft(title=f"step {n}") for n in range(4)]
        project = storage.projects.create("p", tasks=drafts)
        empty = storage.projects.create("empty")
        one, two = storage.tasks.claim("w", limit=2)
        storage.tasks.complete(one.id, one.lease_token)
        storage.tasks.cancel(two.id)
        found = storage.projects.progress(project.id, empty.id, "nobody")
        assert list(found) == [project.id, empty.id]
        progress = found[project.id]
        assert (progress.total, progress.by_state["pending"]) == (4, 2)
        assert progress.fraction == pytest.approx(1 / 3)
        assert (found[empty.id].total, found[empty.id].fraction) == (0, 0.0)

    def test_i8_list_by_group_pages_and_leaves_archived_out(self, storage: Storage) -> None:
        made = [storage.projects.create(name, group=name[0]) for name in ("b1", "a1", "a2")]
        assert [p.name for p in storage.projects.list()] == ["a1", "a2", "b1"]
        first = storage.projects.list(group="a", limit=1)
        second = storage.projects.list(group="a", limit=1, cursor=first.next_cursor)
        assert [p.name for p in (*first, *second)] == ["a1", "a2"]
        storage.projects.archive(made[0].id)
        assert [p.name for p in storage.projects.list()] == ["a1", "a2"]
        assert [p.name for p in storage.projects.list(archived=True)] == ["b1"]
        assert len(storage.projects.list(archived=None)) == 3

    def test_i8_foreign_project_is_missing(self, storage: Storage) -> None:
        other = storage.with_agent("other")
        project = other.projects.create("secret", tasks=[TaskDraft(title="t")])
        mine = storage.with_agent("mine")
        for call in (
            lambda: mine.projects.archive(project.id),
            lambda: mine.tasks.post("t", project_id=project.id),
        ):
            with pytest.raises(NotFound):
                call()
        assert mine.projects.get(project.id) is None
        assert mine.projects.progress(project.id) == {}
        assert len(mine.projects.list(archived=None)) == 0

    def test_i8_bad_input_is_refused(self, storage: Storage) -> None:
        with pytest.raises(Invalid):
            storage.projects.create("")
        with pytest.raises(Invalid):
            storage.projects.create("p", metadata=[1])  # type: ignore[arg-type]
        with pytest.raises(Invalid):
            storage.projects.archive(storage.projects.create("p").id, archived=1)  # type: ignore[arg-type]
        with pytest.raises((Invalid, Conflict)):
            storage.projects.create("p", group="g" * 513)
