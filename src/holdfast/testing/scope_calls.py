"""One call of every public method of every store, for the sweep that proves isolation.

Each call is made by a stranger, once with the ids of somebody else's records and once with ids
that nobody has; see `holdfast.testing.suite.isolation`. Whoever adds a method to a store adds
its line here, or the sweep fails.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from holdfast.storage import Storage
from holdfast.stores import STORES
from holdfast.stores.audit.audit import AuditEvent
from holdfast.stores.checkpoints.policy import CheckpointPolicy
from holdfast.stores.conversations.appending import Draft
from holdfast.stores.knowledge.policy import KnowledgePolicy
from holdfast.stores.memory.policy import MemoryPolicy
from holdfast.stores.memory.repair import RepairJob
from holdfast.stores.store import Store
from holdfast.stores.tasks.records import TaskDraft, TaskFilter
from holdfast.testing.models import WordLateReader, with_models

LATER: Final = timedelta(days=400)
"""How long after the seed the strangers come: everything old, expired or idle is ripe then."""
SECRET: Final = "classified"
"""A word that stands in every text of the owner's records and in nobody else's."""

Ids = Mapping[str, Any]
Call = Callable[[Storage, Ids], object]


def seed(owner: Storage) -> dict[str, Any]:
    """Records of every kind, and their ids and names."""
    title, email = f"{SECRET} title", "owner@example.org"
    room = owner.rooms.create(title)
    owner.rooms.add(room.id, "actor-theirs", name=SECRET)
    talk = owner.conversations.create(key="key-theirs", title=title, room_id=room.id)
    who = owner.conversations.participants.add(
        talk.id, external_id="external-theirs", name=SECRET, email=email
    )
    said = owner.conversations.append(talk.id, f"{SECRET} words", sender_id=who.id)
    session = owner.sessions.create(label="label-theirs", conversation_id=talk.id)
    owner.sessions.canonical.append(f"{SECRET} words")
    event = owner.tool_events.append(session.id, "tool-theirs", input=SECRET, output="shared words")
    memory = owner.memory.remember("shared fact", source=SECRET)
    archived = owner.memory.remember(f"{SECRET} archived")
    owner.memory.archive.put([archived.id])
    owner.kv.set("key-theirs", SECRET)
    owner.audit.append_many([AuditEvent(action="act-theirs", actor=SECRET)] * 3)
    project = owner.projects.create(title, group="group-theirs", tasks=[TaskDraft(title=title)])
    blocker = owner.tasks.post(TaskDraft(title="shared words", description=SECRET, team="theirs"))
    owner.tasks.post(title, depends_on=[blocker.id], idempotency_key="key-theirs")
    owner.tasks.log.append(blocker.id, SECRET)
    expired = owner.tasks.start(blocker.id, "worker", lease_seconds=0.001)
    done = owner.tasks.post(title)
    token = owner.tasks.start(done.id, "worker").lease_token
    owner.tasks.complete(done.id, token)
    saved = owner.checkpoints.save(SECRET.encode(), iteration=1, session_id="label-theirs")
    return {
        **_seed_knowledge(owner),
        "checkpoint": saved.id,
        "room": room.id,
        "actor": "actor-theirs",
        "talk": talk.id,
        "key": "key-theirs",
        "who": who.id,
        "external": "external-theirs",
        "email": email,
        "said": said.id,
        "message": said,
        "session": session.id,
        "label": "label-theirs",
        "event": event.id,
        "tool": "tool-theirs",
        "memory": memory.id,
        "archived": archived.id,
        "fact": "shared fact",
        "act": "act-theirs",
        "project": project.id,
        "group": "group-theirs",
        "task": blocker.id,
        "other_task": done.id,
        "token": expired.lease_token,
        "team": "theirs",
        "agent": "theirs",
        "words": "shared words",
    }


def _seed_knowledge(owner: Storage) -> dict[str, Any]:
    owner.knowledge.put("document-theirs", f"{SECRET} shared words", source="source-theirs")
    owner.knowledge.ledger.note("source-theirs", "item-theirs", SECRET)
    run = owner.knowledge.runs.put("source-theirs", status="succeeded", cursor=SECRET)
    owner.knowledge.grants.create("tag-theirs", by="reader-theirs", title=SECRET)
    shared = owner.knowledge.library.publish(SECRET, "shared words", category="category-theirs")
    connector = owner.knowledge.connectors.create(SECRET, "kind-theirs")
    return {
        "document": "document-theirs",
        "source": "source-theirs",
        "item": "item-theirs",
        "run": run.id,
        "tag": "tag-theirs",
        "reader": "reader-theirs",
        "library": shared.id,
        "category": "category-theirs",
        "connector": connector.id,
        "kind": "kind-theirs",
    }


def absent(ids: Ids) -> dict[str, Any]:
    """Ids and names of the same kind that nobody has."""
    made: dict[str, Any] = {}
    for name, held in ids.items():
        if isinstance(held, str) and held.startswith("id"):
            made[name] = f"id9-{900_000 + len(made)}"
        else:
            made[name] = held.replace("their", "nobod") if isinstance(held, str) else held
    return {**made, "email": "nobody@example.org", "fact": "lonely fact", "words": "lonely voices"}


def public_methods(storage: Storage) -> Iterator[str]:
    """``store.method`` and ``store.facet.method`` of all that the stores offer."""
    for name in STORES:
        yield from _methods(name, getattr(storage, name))


def _methods(path: str, held: Store) -> Iterator[str]:
    for name in dir(type(held)):
        declared = inspect.getattr_static(type(held), name)
        if name.startswith("_") or name == "collections":
            continue
        if inspect.isfunction(declared):
            yield f"{path}.{name}"
        elif hasattr(declared, "__get__"):
            yield from _methods(f"{path}.{name}", getattr(held, name))


def _now(storage: Storage) -> Any:
    return storage.tasks._now()


_AUDIT: Final[dict[str, Call]] = {
    "audit.append": lambda s, i: s.audit.append(i["act"]),
    "audit.append_many": lambda s, i: s.audit.append_many([AuditEvent(action=i["act"])]),
    "audit.export_anchor": lambda s, i: s.audit.export_anchor(),
    "audit.list": lambda s, i: s.audit.list(action=i["act"]),
    "audit.trim": lambda s, i: s.audit.trim(2),
    "audit.verify": lambda s, i: s.audit.verify(),
    "audit.verify_all": lambda s, i: s.audit.verify_all(),
}

_CHECKPOINTS: Final[dict[str, Call]] = {
    "checkpoints.configured": lambda s, i: s.checkpoints.configured(CheckpointPolicy()).stats(),
    "checkpoints.delete": lambda s, i: s.checkpoints.delete(i["checkpoint"]),
    "checkpoints.due": lambda s, i: s.checkpoints.due("tool_call", 1),
    "checkpoints.fork": lambda s, i: s.checkpoints.fork(i["checkpoint"], session_id=i["label"]),
    "checkpoints.latest": lambda s, i: s.checkpoints.latest(session_id=i["label"]),
    "checkpoints.list": lambda s, i: s.checkpoints.list(session_id=i["label"]),
    "checkpoints.load": lambda s, i: s.checkpoints.load(i["checkpoint"]),
    "checkpoints.prune": lambda s, i: s.checkpoints.prune(keep=0, session_id=i["label"]),
    "checkpoints.save": lambda s, i: (
        s.checkpoints.save(b"mine", iteration=1, session_id=i["label"]).sequence
    ),
    "checkpoints.stats": lambda s, i: s.checkpoints.stats(),
}

_CONVERSATIONS: Final[dict[str, Call]] = {
    "conversations.append": lambda s, i: s.conversations.append(i["talk"], "text"),
    "conversations.append_many": lambda s, i: s.conversations.append_many(
        i["talk"], [Draft(text="text")]
    ),
    "conversations.create": lambda s, i: s.conversations.create(room_id=i["room"]),
    "conversations.delete": lambda s, i: s.conversations.delete(i["talk"]),
    "conversations.get": lambda s, i: s.conversations.get(i["talk"]),
    "conversations.get_by_key": lambda s, i: s.conversations.get_by_key(i["key"]),
    "conversations.list": lambda s, i: s.conversations.list(),
    "conversations.list_owned": lambda s, i: s.conversations.list_owned(i["email"]),
    "conversations.overviews": lambda s, i: s.conversations.overviews(),
    "conversations.search": lambda s, i: s.conversations.search(SECRET, conversation_id=i["talk"]),
    "conversations.embeddings.rearm": lambda s, i: s.conversations.embeddings.rearm(),
    "conversations.embeddings.run": lambda s, i: s.conversations.embeddings.run(),
    "conversations.embeddings.stats": lambda s, i: s.conversations.embeddings.stats(),
    "conversations.update": lambda s, i: s.conversations.update(i["talk"], title="mine"),
    "conversations.messages.between": lambda s, i: s.conversations.messages.between(i["talk"]),
    "conversations.messages.get": lambda s, i: s.conversations.messages.get(i["said"]),
    "conversations.messages.named": lambda s, i: _names(s, i),
    "conversations.messages.page": lambda s, i: s.conversations.messages.page(i["talk"]),
    "conversations.messages.recent": lambda s, i: s.conversations.messages.recent(i["talk"]),
    "conversations.messages.remove": lambda s, i: s.conversations.messages.remove(i["said"]),
    "conversations.participants.add": lambda s, i: s.conversations.participants.add(i["talk"]),
    "conversations.participants.get": lambda s, i: s.conversations.participants.get(i["who"]),
    "conversations.participants.list": lambda s, i: s.conversations.participants.list(i["talk"]),
    "conversations.participants.mark_read": lambda s, i: s.conversations.participants.mark_read(
        i["who"], i["said"]
    ),
    "conversations.participants.remove": lambda s, i: s.conversations.participants.remove(i["who"]),
    "conversations.participants.resolve": lambda s, i: s.conversations.participants.resolve(
        i["talk"], i["external"]
    ),
    "conversations.participants.set_state": lambda s, i: s.conversations.participants.set_state(
        i["who"], None
    ),
    "conversations.participants.update": lambda s, i: s.conversations.participants.update(
        i["who"], name="mine"
    ),
}

_ROOMS: Final[dict[str, Call]] = {
    "rooms.actors": lambda s, i: s.rooms.actors(i["room"]),
    "rooms.add": lambda s, i: s.rooms.add(i["room"], i["actor"]),
    "rooms.create": lambda s, i: s.rooms.create("mine"),
    "rooms.delete": lambda s, i: s.rooms.delete(i["room"]),
    "rooms.get": lambda s, i: s.rooms.get(i["room"]),
    "rooms.leave": lambda s, i: s.rooms.leave(i["room"], i["actor"]),
    "rooms.list": lambda s, i: s.rooms.list(),
    "rooms.list_of": lambda s, i: s.rooms.list_of(i["actor"]),
}

_SESSIONS: Final[dict[str, Call]] = {
    "sessions.begin": lambda s, i: s.sessions.begin(key=i["key"], label=i["label"]),
    "sessions.canonical.append": lambda s, i: s.sessions.canonical.append("mine"),
    "sessions.canonical.append_many": lambda s, i: s.sessions.canonical.append_many(
        [Draft(text="mine")]
    ),
    "sessions.canonical.compact": lambda s, i: s.sessions.canonical.compact(threshold=1, keep=0),
    "sessions.canonical.session": lambda s, i: s.sessions.canonical.session(),
    "sessions.canonical.store_summary": lambda s, i: s.sessions.canonical.store_summary(
        "mine", expected_head=1
    ),
    "sessions.canonical.window": lambda s, i: s.sessions.canonical.window(),
    "sessions.count": lambda s, i: s.sessions.count(i["session"], turns=1),
    "sessions.create": lambda s, i: s.sessions.create(parent_id=i["session"]),
    "sessions.delete": lambda s, i: s.sessions.delete(i["session"]),
    "sessions.find_by_label": lambda s, i: s.sessions.find_by_label(i["label"], agent=i["agent"]),
    "sessions.get": lambda s, i: s.sessions.get(i["session"]),
    "sessions.list": lambda s, i: s.sessions.list(),
    "sessions.merge_metadata": lambda s, i: s.sessions.merge_metadata(i["session"], {"a": 1}),
    "sessions.replace_metadata": lambda s, i: s.sessions.replace_metadata(i["session"], {"a": 1}),
    "sessions.set_label": lambda s, i: s.sessions.set_label(i["session"], "mine"),
    "sessions.set_status": lambda s, i: s.sessions.set_status(i["session"], "ended"),
    "tool_events.append": lambda s, i: s.tool_events.append(i["session"], "tool"),
    "tool_events.get": lambda s, i: s.tool_events.get(i["event"]),
    "tool_events.list": lambda s, i: s.tool_events.list(session_id=i["session"], agent=i["agent"]),
    "tool_events.search": lambda s, i: s.tool_events.search(i["words"], agent=i["agent"]),
}

_KV: Final[dict[str, Call]] = {
    "kv.delete": lambda s, i: s.kv.delete(i["key"]),
    "kv.entry": lambda s, i: s.kv.entry(i["key"]),
    "kv.get": lambda s, i: s.kv.get(i["key"]),
    "kv.get_or_compute": lambda s, i: s.kv.get_or_compute(i["key"], lambda: "mine"),
    "kv.list": lambda s, i: s.kv.list(i["key"]),
    "kv.set": lambda s, i: s.kv.set(i["key"], "mine", expected_version=0),
    "kv.sweep": lambda s, i: s.kv.sweep(),
    "kv.update": lambda s, i: s.kv.update(i["key"], lambda held: held),
}

_KNOWLEDGE: Final[dict[str, Call]] = {
    "knowledge.chunks": lambda s, i: s.knowledge.chunks(i["document"]),
    "knowledge.configured": lambda s, i: s.knowledge.configured(KnowledgePolicy()).list(),
    "knowledge.counts": lambda s, i: s.knowledge.counts(sources=[i["source"]]),
    "knowledge.curate": lambda s, i: s.knowledge.curate(i["document"], boost=2.0),
    "knowledge.delete": lambda s, i: s.knowledge.delete(i["document"]),
    "knowledge.delete_source": lambda s, i: s.knowledge.delete_source(i["source"]),
    "knowledge.for_access": lambda s, i: s.knowledge.for_access(user=i["reader"]).list(),
    "knowledge.get": lambda s, i: s.knowledge.get(i["document"]),
    "knowledge.list": lambda s, i: s.knowledge.list(sources=[i["source"]]),
    "knowledge.put": lambda s, i: s.knowledge.put(_fresh(), "mine", source=i["source"]),
    "knowledge.search": lambda s, i: s.knowledge.search(i["words"], documents=[i["document"]]),
    "knowledge.set_access": lambda s, i: s.knowledge.set_access(i["document"], None),
    "knowledge.text": lambda s, i: s.knowledge.text(i["document"]),
    "knowledge.unrestricted": lambda s, i: s.knowledge.unrestricted().list(sources=[i["source"]]),
}

_KNOWLEDGE_PARTS: Final[dict[str, Call]] = {
    "knowledge.connectors.create": lambda s, i: s.knowledge.connectors.create("mine", i["kind"]),
    "knowledge.connectors.delete": lambda s, i: s.knowledge.connectors.delete(i["connector"]),
    "knowledge.connectors.get": lambda s, i: s.knowledge.connectors.get(i["connector"]),
    "knowledge.connectors.list": lambda s, i: s.knowledge.connectors.list(kind=i["kind"]),
    "knowledge.connectors.update": lambda s, i: s.knowledge.connectors.update(
        i["connector"], enabled=False
    ),
    "knowledge.grants.create": lambda s, i: s.knowledge.grants.create(i["tag"], by="me"),
    "knowledge.grants.delete": lambda s, i: s.knowledge.grants.delete(i["tag"], by=i["reader"]),
    "knowledge.grants.get": lambda s, i: s.knowledge.grants.get(i["tag"], user=i["reader"]),
    "knowledge.grants.grant": lambda s, i: s.knowledge.grants.grant(
        i["tag"], "me", "read", by=i["reader"]
    ),
    "knowledge.grants.grants": lambda s, i: s.knowledge.grants.grants(i["tag"], by=i["reader"]),
    "knowledge.grants.list": lambda s, i: s.knowledge.grants.list(user=i["reader"]),
    "knowledge.grants.require": lambda s, i: s.knowledge.grants.require(
        i["tag"], i["reader"], "read"
    ),
    "knowledge.grants.revoke": lambda s, i: s.knowledge.grants.revoke(
        i["tag"], i["reader"], by=i["reader"]
    ),
    "knowledge.grants.right": lambda s, i: s.knowledge.grants.right(i["tag"], i["reader"]),
    "knowledge.ledger.forget": lambda s, i: s.knowledge.ledger.forget(i["source"], [i["item"]]),
    "knowledge.ledger.get": lambda s, i: s.knowledge.ledger.get(i["source"], i["item"]),
    "knowledge.ledger.list": lambda s, i: s.knowledge.ledger.list(source=i["source"]),
    "knowledge.ledger.note": lambda s, i: s.knowledge.ledger.note(i["source"], i["item"], "mine"),
    "knowledge.library.endorse": lambda s, i: s.knowledge.library.endorse(
        i["library"], endorser=s.scope.agent
    ),
    "knowledge.library.endorsements": lambda s, i: s.knowledge.library.endorsements(i["library"]),
    "knowledge.library.get": lambda s, i: s.knowledge.library.get(i["library"]),
    "knowledge.library.list": lambda s, i: s.knowledge.library.list(category=i["category"]),
    "knowledge.library.publish": lambda s, i: s.knowledge.library.publish(
        "mine", "mine", category=i["category"]
    ),
    "knowledge.library.search": lambda s, i: s.knowledge.library.search(
        i["words"], category=i["category"]
    ),
    "knowledge.library.withdraw": lambda s, i: s.knowledge.library.withdraw(i["library"]),
    "knowledge.runs.cursor": lambda s, i: s.knowledge.runs.cursor(i["source"]),
    "knowledge.runs.delete": lambda s, i: s.knowledge.runs.delete(i["run"]),
    "knowledge.runs.get": lambda s, i: s.knowledge.runs.get(i["run"]),
    "knowledge.runs.list": lambda s, i: s.knowledge.runs.list(source=i["source"]),
    "knowledge.runs.put": lambda s, i: s.knowledge.runs.put(i["source"]),
    "knowledge.vectors.rearm": lambda s, i: s.knowledge.vectors.rearm(vectorless=True),
    "knowledge.vectors.reembed": lambda s, i: s.knowledge.vectors.reembed().space,
    "knowledge.vectors.repair": lambda s, i: s.knowledge.vectors.repair(),
    "knowledge.vectors.stats": lambda s, i: s.knowledge.vectors.stats(),
}

_MEMORY_PARTS: Final[dict[str, Call]] = {
    "memory.consolidation.run": lambda s, i: s.memory.consolidation.run(),
    "memory.history.as_of": lambda s, i: s.memory.history.as_of(_now(s) - LATER),
    "memory.history.contradict": lambda s, i: s.memory.history.contradict(
        i["memory"], by=i["archived"]
    ),
    "memory.history.corroborate": lambda s, i: s.memory.history.corroborate(i["memory"]),
    "memory.history.current": lambda s, i: s.memory.history.current(i["memory"]),
    "memory.history.events": lambda s, i: s.memory.history.events(i["memory"]),
    "memory.history.predecessors": lambda s, i: s.memory.history.predecessors(i["memory"]),
    "memory.history.restore": lambda s, i: s.memory.history.restore(i["memory"]),
    "memory.history.set_confidence": lambda s, i: s.memory.history.set_confidence(i["memory"], 0.9),
    "memory.history.supersede": lambda s, i: s.memory.history.supersede(i["memory"], i["archived"]),
    "memory.late.fill": lambda s, i: with_models(s, late=WordLateReader()).memory.late.fill(),
    "memory.late.missing": lambda s, i: with_models(s, late=WordLateReader()).memory.late.missing(),
    "memory.hygiene.clean": lambda s, i: s.memory.hygiene.clean("never_recalled", dry_run=False),
    "memory.hygiene.list": lambda s, i: s.memory.hygiene.list("never_recalled"),
    "memory.hygiene.measure": lambda s, i: s.memory.hygiene.measure(),
    "memory.namespaces.delete": lambda s, i: s.memory.namespaces.delete(i["agent"]),
    "memory.namespaces.link": lambda s, i: s.memory.namespaces.link(i["agent"], "mine"),
    "memory.namespaces.links": lambda s, i: s.memory.namespaces.links(i["agent"]),
    "memory.namespaces.list": lambda s, i: s.memory.namespaces.list(),
    "memory.namespaces.move": lambda s, i: s.memory.namespaces.move([i["memory"]], "mine"),
    "memory.namespaces.rename": lambda s, i: s.memory.namespaces.rename(i["agent"], "mine"),
    "memory.namespaces.split": lambda s, i: s.memory.namespaces.split(
        i["agent"], "mine", ids=[i["memory"]]
    ),
    "memory.namespaces.unlink": lambda s, i: s.memory.namespaces.unlink(i["agent"], "linked"),
    "memory.repair.claim": lambda s, i: s.memory.repair.claim(),
    "memory.repair.complete": lambda s, i: s.memory.repair.complete(_job(i), [1.0] * 256),
    "memory.repair.fail": lambda s, i: s.memory.repair.fail(_job(i), "error"),
    "memory.repair.rearm": lambda s, i: s.memory.repair.rearm([i["memory"]]),
    "memory.repair.run": lambda s, i: s.memory.repair.run(),
    "memory.repair.stats": lambda s, i: s.memory.repair.stats(),
    "memory.spaces.active": lambda s, i: s.memory.spaces.active(),
    "memory.spaces.begin": lambda s, i: s.memory.spaces.begin(_embedder(s)),
    "memory.spaces.calibrate": lambda s, i: s.memory.spaces.calibrate(),
    "memory.spaces.calibration": lambda s, i: s.memory.spaces.calibration(),
    "memory.spaces.cancel": lambda s, i: s.memory.spaces.cancel(),
    "memory.spaces.drop": lambda s, i: s.memory.spaces.drop(),
    "memory.spaces.finish": lambda s, i: s.memory.spaces.finish(),
    "memory.spaces.kept": lambda s, i: s.memory.spaces.kept(),
    "memory.spaces.progress": lambda s, i: s.memory.spaces.progress(),
    "memory.spaces.reembed": lambda s, i: s.memory.spaces.reembed(),
    "memory.spaces.step": lambda s, i: s.memory.spaces.step(_embedder(s)),
    "memory.spaces.stragglers": lambda s, i: s.memory.spaces.stragglers(),
    "memory.transfer.export_lines": lambda s, i: list(s.memory.transfer.export_lines()),
    "memory.transfer.import_lines": lambda s, i: s.memory.transfer.import_lines([]),
}

_MEMORY: Final[dict[str, Call]] = {
    "memory.archive.delete": lambda s, i: s.memory.archive.delete(i["archived"]),
    "memory.archive.discard": lambda s, i: s.memory.archive.discard(i["archived"]),
    "memory.archive.get": lambda s, i: s.memory.archive.get(i["archived"]),
    "memory.archive.list": lambda s, i: s.memory.archive.list(),
    "memory.archive.put": lambda s, i: s.memory.archive.put([i["memory"]]),
    "memory.archive.put_untouched": lambda s, i: s.memory.archive.put_untouched(before=_now(s)),
    "memory.archive.restore": lambda s, i: s.memory.archive.restore([i["archived"]]),
    "memory.configured": lambda s, i: s.memory.configured(MemoryPolicy()).list(),
    "memory.correct": lambda s, i: s.memory.correct(i["memory"], "mine"),
    "memory.delete": lambda s, i: s.memory.delete(i["memory"]),
    "memory.find_by_prefix": lambda s, i: s.memory.find_by_prefix(i["memory"]),
    "memory.forget": lambda s, i: s.memory.forget(i["memory"]),
    "memory.get": lambda s, i: s.memory.get(i["memory"]),
    "memory.lifecycle.cap": lambda s, i: s.memory.lifecycle.cap(),
    "memory.lifecycle.decay": lambda s, i: s.memory.lifecycle.decay(),
    "memory.lifecycle.demote": lambda s, i: s.memory.lifecycle.demote(),
    "memory.lifecycle.promote": lambda s, i: s.memory.lifecycle.promote(),
    "memory.lifecycle.purge": lambda s, i: s.memory.lifecycle.purge(older_than_seconds=1.0),
    "memory.lifecycle.quarantine": lambda s, i: s.memory.lifecycle.quarantine([i["memory"]]),
    "memory.lifecycle.quarantined": lambda s, i: s.memory.lifecycle.quarantined(),
    "memory.lifecycle.release": lambda s, i: s.memory.lifecycle.release([i["memory"]]),
    "memory.lifecycle.remove_older": lambda s, i: s.memory.lifecycle.remove_older(
        before=_now(s), dry_run=False
    ),
    "memory.lifecycle.retier": lambda s, i: s.memory.lifecycle.retier(i["memory"], "episodic"),
    "memory.lifecycle.sweep": lambda s, i: s.memory.lifecycle.sweep(),
    "memory.list": lambda s, i: s.memory.list(include_closed=True, ids=[i["memory"]]),
    "memory.pin": lambda s, i: s.memory.pin(i["memory"]),
    "memory.recall": lambda s, i: s.memory.recall(i["fact"], include_archived=True, reinforce=True),
    "memory.reinforce": lambda s, i: s.memory.reinforce([i["memory"]]),
    "memory.remember": lambda s, i: s.memory.remember(i["fact"]),
    "memory.remember_many": lambda s, i: s.memory.remember_many([i["fact"]]),
    "memory.stats": lambda s, i: s.memory.stats(),
    "memory.unpin": lambda s, i: s.memory.unpin(i["memory"]),
    "memory.update": lambda s, i: s.memory.update(i["memory"], content="mine"),
}

_TASKS: Final[dict[str, Call]] = {
    "projects.archive": lambda s, i: s.projects.archive(i["project"]),
    "projects.create": lambda s, i: s.projects.create("mine", group=i["group"]),
    "projects.get": lambda s, i: s.projects.get(i["project"]),
    "projects.list": lambda s, i: s.projects.list(group=i["group"], archived=None),
    "projects.progress": lambda s, i: s.projects.progress(i["project"]),
    "tasks.cancel": lambda s, i: s.tasks.cancel(i["task"]),
    "tasks.claim": lambda s, i: s.tasks.claim("worker", limit=9, where=TaskFilter(team=i["team"])),
    "tasks.complete": lambda s, i: s.tasks.complete(i["task"], i["token"]),
    "tasks.counts": lambda s, i: s.tasks.counts(TaskFilter(project_id=i["project"])),
    "tasks.dependencies.add": lambda s, i: s.tasks.dependencies.add(i["task"], i["other_task"]),
    "tasks.dependencies.blockers": lambda s, i: s.tasks.dependencies.blockers(i["task"]),
    "tasks.dependencies.dependents": lambda s, i: s.tasks.dependencies.dependents(i["task"]),
    "tasks.dependencies.remove": lambda s, i: s.tasks.dependencies.remove(
        i["task"], i["other_task"]
    ),
    "tasks.extend": lambda s, i: s.tasks.extend(i["task"], i["token"]),
    "tasks.fail": lambda s, i: s.tasks.fail(i["task"], i["token"], "error"),
    "tasks.find_by_prefix": lambda s, i: s.tasks.find_by_prefix(i["task"]),
    "tasks.get": lambda s, i: s.tasks.get(i["task"]),
    "tasks.list": lambda s, i: s.tasks.list(TaskFilter(project_id=i["project"])),
    "tasks.log.append": lambda s, i: s.tasks.log.append(i["task"], "mine"),
    "tasks.log.list": lambda s, i: s.tasks.log.list(i["task"]),
    "tasks.post": lambda s, i: s.tasks.post("mine", idempotency_key=i["key"]),
    "tasks.release": lambda s, i: s.tasks.release(i["task"], i["token"]),
    "tasks.search": lambda s, i: s.tasks.search(i["words"]),
    "tasks.start": lambda s, i: s.tasks.start(i["task"], "worker"),
    "tasks.upkeep.prune": lambda s, i: s.tasks.upkeep.prune(older_than_seconds=1.0),
    "tasks.upkeep.reclaim": lambda s, i: s.tasks.upkeep.reclaim(),
}

CALLS: Final[dict[str, Call]] = {
    **_AUDIT,
    **_CHECKPOINTS,
    **_CONVERSATIONS,
    **_KNOWLEDGE,
    **_KNOWLEDGE_PARTS,
    **_KV,
    **_MEMORY,
    **_MEMORY_PARTS,
    **_ROOMS,
    **_SESSIONS,
    **_TASKS,
}
"""Every public method, by the name that `public_methods` gives it."""


def _names(storage: Storage, ids: Ids) -> object:
    """The names behind a message that the stranger holds but may not look into."""
    return [spoken.sender for spoken in storage.conversations.messages.named([ids["message"]])]


def _job(ids: Ids) -> RepairJob:
    """A repair that the stranger was never given."""
    return RepairJob(
        id=ids["memory"],
        content="",
        fingerprint="",
        token="",
        attempt=1,
        leased_until=datetime.max.replace(tzinfo=UTC),
    )


_COUNTED: Final = itertools.count()


def _fresh() -> str:
    """An id that nobody has used before, of the form that ids are minted in here."""
    return f"id8-{next(_COUNTED):06}"


def _embedder(storage: Storage) -> Any:
    return storage.memory._runtime.embedder
