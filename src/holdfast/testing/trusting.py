"""Checks and layers that let pass what they should not: for saboteurs."""

from __future__ import annotations

from collections.abc import Sequence

from holdfast.core.change import Change, Outcome
from holdfast.core.collection import Collection
from holdfast.core.errors import SchemaNewer
from holdfast.core.filter import Filter
from holdfast.layers.check import Checked
from holdfast.layers.layer import Layer


class NoGuard(Layer):
    """Opens a newer store as if it were its own."""

    def setup(self, collections: Sequence[Collection], *, create: bool = True) -> None:
        try:
            self.below.setup(collections, create=create)
        except SchemaNewer:
            return


class Trusting(Checked):
    """Passes every write on as it came."""

    def apply(
        self,
        tenant: str,
        changes: Sequence[Change],
        *,
        op_id: str | None = None,
        op_body: bytes | None = None,
    ) -> list[Outcome]:
        return self.below.apply(tenant, changes, op_id=op_id, op_body=op_body)


class TrustingFilters(Checked):
    """Passes every filter on as it came, names and all."""

    def _filter(self, collection: Collection, part: Filter) -> Filter:
        return part
