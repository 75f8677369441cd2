"""Semantic memory: `Memories` and its facets."""

from typing import TYPE_CHECKING

from holdfast.core.lazy import attributes_of

if TYPE_CHECKING:
    from holdfast.stores.memory.memories import Memories
    from holdfast.stores.memory.policy import MemoryPolicy
    from holdfast.stores.memory.recollection import Recalled, Recollection
    from holdfast.stores.memory.records import Memory

__all__ = ["Memories", "Memory", "MemoryPolicy", "Recalled", "Recollection"]

__getattr__ = attributes_of(
    __name__,
    {
        "Memories": "memories",
        "Memory": "records",
        "MemoryPolicy": "policy",
        "Recalled": "recollection",
        "Recollection": "recollection",
    },
)
