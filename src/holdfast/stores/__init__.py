"""Stores: what records mean, written once. None of them knows an engine.

To add one, write its file and add its line to STORES (docs/add-a-store.md).
"""

from __future__ import annotations

from typing import Final

from holdfast.stores.audit.audit import Audit
from holdfast.stores.conversations.conversations import Conversations
from holdfast.stores.knowledge.knowledge import Knowledge
from holdfast.stores.kv import KeyValue
from holdfast.stores.memory.memories import Memories
from holdfast.stores.rooms import Rooms
from holdfast.stores.sessions.sessions import Sessions
from holdfast.stores.store import Store
from holdfast.stores.tasks.projects import Projects
from holdfast.stores.tasks.tasks import Tasks
from holdfast.stores.tool_events import ToolEvents

STORES: Final[dict[str, type[Store]]] = {
    "audit": Audit,
    "conversations": Conversations,
    "knowledge": Knowledge,
    "kv": KeyValue,
    "memory": Memories,
    "projects": Projects,
    "rooms": Rooms,
    "tasks": Tasks,
    "sessions": Sessions,
    "tool_events": ToolEvents,
}
"""Attribute of Storage -> its store."""
