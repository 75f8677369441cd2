"""Semantic memory: `Memories` and its facets."""

from holdfast.stores.memory.memories import Memories
from holdfast.stores.memory.policy import MemoryPolicy
from holdfast.stores.memory.records import Memory, Recalled, Recollection

__all__ = ["Memories", "Memory", "MemoryPolicy", "Recalled", "Recollection"]
