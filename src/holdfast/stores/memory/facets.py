"""The parts of semantic memory that are reached through an attribute of the store."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

from holdfast.stores.memory.base import MemoryStore
from holdfast.stores.memory.keep import Keeping

if TYPE_CHECKING:
    from holdfast.stores.memory.archive import Archive
    from holdfast.stores.memory.consolidate import Consolidation
    from holdfast.stores.memory.history import History
    from holdfast.stores.memory.hygiene import Hygiene
    from holdfast.stores.memory.late import LateReading
    from holdfast.stores.memory.lifecycle import Lifecycle
    from holdfast.stores.memory.namespaces import Namespaces
    from holdfast.stores.memory.repair import Repair
    from holdfast.stores.memory.spaces import Spaces
    from holdfast.stores.memory.transfer import Transfer

Facet = TypeVar("Facet", bound=MemoryStore)


class Facets(Keeping):
    """Each facet shares the store's driver, scope, runtime and policy; imported when used."""

    @cached_property
    def lifecycle(self) -> Lifecycle:
        """Expiry, decay, tiers, cap, quarantine, purge."""
        from holdfast.stores.memory.lifecycle import Lifecycle

        return self._facet(Lifecycle)

    @cached_property
    def archive(self) -> Archive:
        """Cold memories, compressed."""
        from holdfast.stores.memory.archive import Archive

        return self._facet(Archive)

    @cached_property
    def history(self) -> History:
        """Succession, contradiction, confidence, and what held when."""
        from holdfast.stores.memory.history import History

        return self._facet(History)

    @cached_property
    def repair(self) -> Repair:
        """The queue of memories whose vector is missing."""
        from holdfast.stores.memory.repair import Repair

        return self._facet(Repair)

    @cached_property
    def late(self) -> LateReading:
        """Packed tokens for late interaction, and filling in those that are missing."""
        from holdfast.stores.memory.late import LateReading

        return self._facet(LateReading)

    @cached_property
    def consolidation(self) -> Consolidation:
        """Merging of near duplicates."""
        from holdfast.stores.memory.consolidate import Consolidation

        return self._facet(Consolidation)

    @cached_property
    def hygiene(self) -> Hygiene:
        """What does no good: measured, listed, cleaned."""
        from holdfast.stores.memory.hygiene import Hygiene

        return self._facet(Hygiene)

    @cached_property
    def spaces(self) -> Spaces:
        """The embedding space, and the move to another."""
        from holdfast.stores.memory.spaces import Spaces

        return self._facet(Spaces)

    @cached_property
    def namespaces(self) -> Namespaces:
        """Named parts of the scope, and links between them."""
        from holdfast.stores.memory.namespaces import Namespaces

        return self._facet(Namespaces)

    @cached_property
    def transfer(self) -> Transfer:
        """Export and import as JSON Lines."""
        from holdfast.stores.memory.transfer import Transfer

        return self._facet(Transfer)

    def _facet(self, kind: type[Facet]) -> Facet:
        return kind(self._driver, self._scope, self._runtime, self._policy)
