"""Semantic memory: `Memories` and its facets."""

from holdfast.stores.memory.memories import Memories
from holdfast.stores.memory.policy import MemoryPolicy
from holdfast.stores.memory.recollection import Recalled, Recollection
from holdfast.stores.memory.records import Memory

__all__ = ["Memories", "Memory", "MemoryPolicy", "Recalled", "Recollection"]
