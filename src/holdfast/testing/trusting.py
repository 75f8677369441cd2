"""Checks that let pass what they should not: for saboteurs."""

from __future__ import annotations

from collections.abc import Sequence

from holdfast.core.change import Change, Outcome
from holdfast.core.collection import Collection
from holdfast.core.filter import Filter
from holdfast.layers.check import Checked


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
