"""The parts of knowledge that are reached through an attribute of the store."""

from __future__ import annotations

from functools import cached_property
from typing import TypeVar

from holdfast.stores.knowledge.base import KnowledgeStore
from holdfast.stores.knowledge.connectors import Connectors
from holdfast.stores.knowledge.grants import Grants
from holdfast.stores.knowledge.ledger import Ledger
from holdfast.stores.knowledge.library import Library
from holdfast.stores.knowledge.runs import Runs
from holdfast.stores.knowledge.vectors import KnowledgeVectors

Facet = TypeVar("Facet", bound=KnowledgeStore)


class Facets(KnowledgeStore):
    """Each facet shares the store's driver, scope, runtime and policy."""

    @cached_property
    def grants(self) -> Grants:
        """Collections of documents, and who may read and write them."""
        return self._facet(Grants)

    @cached_property
    def runs(self) -> Runs:
        """Passages over a source, and how far they came."""
        return self._facet(Runs)

    @cached_property
    def ledger(self) -> Ledger:
        """What was last seen of each item of a source."""
        return self._facet(Ledger)

    @cached_property
    def library(self) -> Library:
        """What agents learnt and share with each other."""
        return self._facet(Library)

    @cached_property
    def connectors(self) -> Connectors:
        """How sources are reached."""
        return self._facet(Connectors)

    @cached_property
    def vectors(self) -> KnowledgeVectors:
        """Vectors that are missing."""
        return self._facet(KnowledgeVectors)

    def _facet(self, kind: type[Facet]) -> Facet:
        return kind(self._driver, self._scope, self._runtime, self._policy, self._readers)
