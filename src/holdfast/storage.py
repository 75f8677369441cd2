"""Storage: what users hold. One attribute per store, a scope, units of work, health, close."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from holdfast.core.collection import Collection
from holdfast.core.driver import Driver, Health, Report
from holdfast.core.errors import Forbidden, HoldfastError, Invalid
from holdfast.core.runtime import Runtime
from holdfast.core.scope import Scope
from holdfast.core.values import check_float, check_text
from holdfast.journal.follow import Follower, Following
from holdfast.layers.check import Checked
from holdfast.layers.unit import UnitOfWork
from holdfast.stores import STORES
from holdfast.stores.given import check_op_id, check_verbs
from holdfast.stores.store import FACTS, Store

if TYPE_CHECKING:
    from holdfast.stores.audit.audit import Audit
    from holdfast.stores.checkpoints.checkpoints import Checkpoints
    from holdfast.stores.conversations.conversations import Conversations
    from holdfast.stores.knowledge.knowledge import Knowledge
    from holdfast.stores.kv import KeyValue
    from holdfast.stores.memory.memories import Memories
    from holdfast.stores.rooms import Rooms
    from holdfast.stores.sessions.sessions import Sessions
    from holdfast.stores.tasks.projects import Projects
    from holdfast.stores.tasks.tasks import Tasks
    from holdfast.stores.tool_events import ToolEvents

StoreType = TypeVar("StoreType", bound=Store)


def all_collections() -> tuple[Collection, ...]:
    """Every collection of the built-in stores."""
    return FACTS, *STORES.collections().values()


class Storage:
    """A handle on one store, bound to a tenant and, if asked, an agent, a user, a namespace.

    Handles made by `scoped` share the connection; closing one closes all.
    """

    def __init__(self, driver: Driver, scope: Scope, runtime: Runtime) -> None:
        self._driver = driver
        self._scope = scope
        self._runtime = runtime

    @cached_property
    def audit(self) -> Audit:
        """An append-only log that shows tampering."""
        from holdfast.stores.audit.audit import Audit

        return self.store(Audit)

    @cached_property
    def checkpoints(self) -> Checkpoints:
        """The state of an agent at every step."""
        from holdfast.stores.checkpoints.checkpoints import Checkpoints

        return self.store(Checkpoints)

    @cached_property
    def conversations(self) -> Conversations:
        """Threads of messages and who takes part in them."""
        from holdfast.stores.conversations.conversations import Conversations

        return self.store(Conversations)

    @cached_property
    def knowledge(self) -> Knowledge:
        """Documents, found by their chunks, by whom they admit."""
        from holdfast.stores.knowledge.knowledge import Knowledge

        return self.store(Knowledge)

    @cached_property
    def kv(self) -> KeyValue:
        """Named JSON values."""
        from holdfast.stores.kv import KeyValue

        return self.store(KeyValue)

    @cached_property
    def rooms(self) -> Rooms:
        """Places that hold conversations and actors."""
        from holdfast.stores.rooms import Rooms

        return self.store(Rooms)

    @cached_property
    def projects(self) -> Projects:
        """Named sets of tasks."""
        from holdfast.stores.tasks.projects import Projects

        return self.store(Projects)

    @cached_property
    def tasks(self) -> Tasks:
        """Work that is posted, claimed under a lease, and finished."""
        from holdfast.stores.tasks.tasks import Tasks

        return self.store(Tasks)

    @cached_property
    def memory(self) -> Memories:
        """What was remembered, recalled by meaning and by words."""
        from holdfast.stores.memory.memories import Memories

        return self.store(Memories)

    @cached_property
    def sessions(self) -> Sessions:
        """Runs of an agent: state, counters, labels, descent, the canonical session."""
        from holdfast.stores.sessions.sessions import Sessions

        return self.store(Sessions)

    @cached_property
    def tool_events(self) -> ToolEvents:
        """What an agent's tools were given and gave back."""
        from holdfast.stores.tool_events import ToolEvents

        return self.store(ToolEvents)

    @property
    def scope(self) -> Scope:
        """What this handle is bound to."""
        return self._scope

    def store(self, kind: type[StoreType]) -> StoreType:
        """A store of any kind on this handle, also one from another package.

        The first use of a foreign store sets up its collections.
        """
        if not isinstance(kind, type) or not issubclass(kind, Store):
            raise Invalid("kind", expected="a class of stores", got=kind)
        if not STORES.has(kind):
            self._driver.setup(kind.collections)
        return kind(self._driver, self._scope, self._runtime)

    def scoped(
        self,
        *,
        tenant: str | None = None,
        agent: str | None = None,
        user: str | None = None,
        namespace: str | None = None,
    ) -> Storage:
        """A handle that is bound further; parts not named stay as they are."""
        named = {"tenant": tenant, "agent": agent, "user": user, "namespace": namespace}
        changed = {part: value for part, value in named.items() if value is not None}
        return Storage(self._driver, msgspec.structs.replace(self._scope, **changed), self._runtime)

    def with_agent(self, agent: str) -> Storage:
        """A handle bound to one agent: every call by id is checked for it too."""
        return self.scoped(agent=agent)

    @contextmanager
    def unit(self, *, op_id: str | None = None) -> Iterator[Storage]:
        """Write through the handle that the block is given; all of it commits at its end, or none.

        Inside, a read by id sees the unit's writes, every other read the store as it is.
        Sequence numbers are 0 until the commit, and a claim is refused. An error in the block, or
        a Conflict at its end, leaves no trace. After the block the handle says Closed. With
        ``op_id`` a repeat of the unit runs the block but writes nothing a second time.
        """
        check_op_id(op_id)
        collections = {c.name: c for c in all_collections()}
        work = UnitOfWork(self._driver, collections)
        try:
            # Checked here as well, so that bad input fails at its call and not at the end.
            yield Storage(Checked(work, collections), self._scope, self._runtime)
        except BaseException:
            work.end()
            raise
        work.commit(self._scope.operation(op_id))

    def follow(self, follower: Follower) -> Following:
        """Keep the tenant's changes for a follower from now on, such as a transcript mirror.

        Call ``catch_up`` of what is returned whenever it suits. Raises Forbidden on a handle that
        is bound below its tenant, Unsupported where the engine has no feed.
        """
        if self._scope.bound():
            raise Forbidden("Following shows the whole tenant; this handle is bound below it.")
        if not isinstance(getattr(follower, "name", None), str):
            raise Invalid("follower", expected="an object with a name", got=follower)
        check_verbs("follower", follower, "position", "take")
        following = Following(self._driver, follower, tenant=self._scope.tenant)
        following.start()
        return following

    def health(self, *, timeout_seconds: float = 5.0) -> Health:
        """Whether the store answers and is ready, and facts about it. Never raises.

        A store that has not answered after ``timeout_seconds`` (at most an hour) is not ok.
        """
        if not 0 < check_float("timeout_seconds", timeout_seconds) <= 3600:
            raise Invalid("timeout_seconds", expected="seconds above 0", got=repr(timeout_seconds))
        return _asked_in_time(self._driver, timeout_seconds)

    def backup(self, target: str | os.PathLike[str]) -> Report:
        """Write a consistent copy to the path ``target`` while others write."""
        if isinstance(target, os.PathLike):
            target = os.fspath(target)
        if not check_text("target", target):
            raise Invalid("target", expected="a path", got="empty text")
        return self._driver.backup(target)

    def connection(self) -> Any:
        """The engine's own client, to look at the data by other means.

        For a file it is a new read-only apsw connection, which the caller closes. Opening the
        file through sqlite3 in this process instead would break holdfast's locks.
        """
        return self._driver.native()

    @property
    def closed(self) -> bool:
        """Whether this handle, or one that shares its store, was closed."""
        return self._driver.closed

    def close(self) -> None:
        """Let go of the store; may be repeated. Later calls raise Closed."""
        self._driver.close()

    def __enter__(self) -> Storage:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Storage {self._driver.name} tenant={self._scope.tenant!r}>"


def _asked_in_time(driver: Driver, seconds: float) -> Health:
    """The driver's health, or why it gave none; a late answer is left to its own thread."""
    answers: list[Health] = []

    def ask() -> None:
        try:
            answers.append(driver.health())
        except Exception as error:  # noqa: BLE001 - whatever is wrong, this is the answer to it
            known = isinstance(error, HoldfastError)
            reason = error.message if known else type(error).__name__  # type: ignore[attr-defined]
            answers.append(Health(False, driver.name, reason, ready=False))

    asking = threading.Thread(target=ask, name="holdfast-health", daemon=True)
    asking.start()
    asking.join(seconds)
    if answers:
        return answers[0]
    return Health(False, driver.name, f"no answer within {seconds:g} seconds", ready=False)
