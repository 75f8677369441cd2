"""The parts of semantic memory that are reached through an attribute of the store."""

from __future__ import annotations

from functools import cached_property
from typing import TypeVar

from holdfast.stores.memory.archive import Archive
from holdfast.stores.memory.base import MemoryStore
from holdfast.stores.memory.keep import Keeping
from holdfast.stores.memory.lifecycle import Lifecycle

Facet = TypeVar("Facet", bound=MemoryStore)


class Facets(Keeping):
    """Each facet shares the store's driver, scope, runtime and policy."""

    @cached_property
    def lifecycle(self) -> Lifecycle:
        """Expiry, decay, tiers, cap, quarantine, purge."""
        return self._facet(Lifecycle)

    @cached_property
    def archive(self) -> Archive:
        """Cold memories, compressed."""
        return self._facet(Archive)

    def _facet(self, kind: type[Facet]) -> Facet:
        return kind(self._driver, self._scope, self._runtime, self._policy)
