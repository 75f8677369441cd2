"""What all parts of the knowledge store share: who asks, and the space that vectors live in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from holdfast.core.change import Change, Put
from holdfast.core.driver import Driver
from holdfast.core.embedding import Embedder
from holdfast.core.errors import DimensionMismatch, HoldfastError
from holdfast.core.filter import (
    Contains,
    Filter,
    InSelect,
    Record,
    among,
    both,
    either,
    eq,
    is_null,
)
from holdfast.core.runtime import Runtime
from holdfast.core.scope import Scope
from holdfast.core.search import VectorLeg
from holdfast.core.values import Vector, vector_of
from holdfast.stores.knowledge.access import EVERYBODY, OPEN
from holdfast.stores.knowledge.policy import KnowledgePolicy
from holdfast.stores.knowledge.records import GRANTS, SLOTS, SPACES, KnowledgeSpace
from holdfast.stores.models import document_vectors
from holdfast.stores.owned import Owned
from holdfast.stores.store import builder

as_space = builder(KnowledgeSpace)

TRIES: Final = 50
"""How often a write repeats when others write the same document or the first of a space."""


class KnowledgeStore(Owned):
    """Base of the knowledge store and its facets.

    ``readers`` are the words of whoever reads through it, None for one whom nothing is kept from.
    """

    def __init__(
        self,
        driver: Driver,
        scope: Scope,
        runtime: Runtime,
        policy: KnowledgePolicy | None = None,
        readers: tuple[str, ...] | None = OPEN,
    ) -> None:
        super().__init__(driver, scope, runtime)
        self._policy = policy or KnowledgePolicy()
        self._readers = readers

    # --- who asks

    def _readable(self) -> Filter | None:
        """What the reader may see of documents, and alike of chunks: both carry the same fields.

        A document in a collection needs a grant besides; without one, or without any grants at
        all, it is seen by nobody.
        """
        if self._readers is None:
            return None
        users = [w.removeprefix("user:") for w in self._readers if w.startswith("user:")]
        granted = self._within(GRANTS, among("grantee", (EVERYBODY, *users)))
        in_granted = InSelect("collection_id", GRANTS.name, "collection_id", granted)
        return both(
            Contains("readers", self._readers, "any"),
            either(is_null("collection_id"), in_granted),
        )

    # --- vectors

    def _embedder(self) -> Embedder | None:
        """What makes vectors; None without one, and on an engine that keeps none."""
        return self._runtime.embedder if self._driver.capabilities.vectors else None

    def _active_space(self) -> KnowledgeSpace | None:
        found = self._first(SPACES, eq("state", "active"))
        return None if found is None else as_space(found)

    def _space(self, embedder: Embedder) -> KnowledgeSpace | None:
        """The tenant's space if it is the embedder's, None while the tenant has none.

        Raises DimensionMismatch, naming both, when the tenant's knowledge lives in another.
        """
        active = self._active_space()
        if active is None or active.id == embedder.space.id:
            return active
        raise DimensionMismatch(
            "embedding",
            expected=f"the space {active.id}, in which this tenant's knowledge is",
            got=embedder.space.id,
            hint="Open with that model, or move there by storage.knowledge.vectors.reembed().",
        )

    def _slot_for_writing(self, embedder: Embedder) -> tuple[str, list[Change]]:
        """The vector field to write to, and the space's own row when this is its first vector."""
        space = self._space(embedder)
        if space is not None:
            return space.slot, []
        now = self._now()
        fresh = {"id": embedder.space.id, "state": "active", "slot": SLOTS[0]}
        return SLOTS[0], [Put(SPACES.name, {**fresh, "created_at": now, "updated_at": now})]

    def _vectors_of(self, texts: Sequence[str]) -> tuple[dict[str, Vector], str | None]:
        """A vector for each text that says something, or the code of why there are none."""
        embedder = self._embedder()
        wanted = [text for text in dict.fromkeys(texts) if not text.isspace()]
        if embedder is None or not wanted:
            return {}, None
        made, error = document_vectors(embedder, wanted)
        return ({}, error) if error is not None else (dict(zip(wanted, made, strict=True)), None)

    def _vector_fields(self, slot: str, vector: Vector | None, error: str | None) -> Record:
        """The fields of a row that follow from its vector, or from why it has none."""
        cleared: Record = {**dict.fromkeys(SLOTS), "space": None}
        if vector is not None:
            return {**cleared, slot: vector, "space": vector.space, **SETTLED}
        queued = None if error is None else self._now()
        return {**cleared, **SETTLED, "repair_at": queued, "repair_error": error}

    def _query_leg(self, query: str) -> tuple[VectorLeg | None, str | None]:
        """The vector leg of a query; None, and a code where it failed, when there is none."""
        embedder = self._embedder()
        if embedder is None or not query.strip():
            return None, None
        space = self._space(embedder)
        if space is None:
            return None, None
        try:
            [row] = embedder.embed([query], "query")
            return VectorLeg(field=space.slot, vector=vector_of("query", space.id, row)), None
        except DimensionMismatch:
            raise
        except (HoldfastError, ValueError) as error:
            return None, getattr(error, "code", type(error).__name__)


SETTLED: Final[Mapping[str, Any]] = {
    "repair_at": None,
    "repair_token": None,
    "repair_error": None,
    "repair_attempts": 0,
    "repair_parked": False,
}
"""Fields of a row that waits for nothing."""


def plain(record: msgspec.Struct) -> Record:
    """A record struct as the contract takes it, without the revision that engines count."""
    row = msgspec.structs.asdict(record)
    del row["revision"]
    return row
