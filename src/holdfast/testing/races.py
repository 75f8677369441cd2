"""A race that is certain: something happens between a store's reads and its write."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from holdfast.core.change import Change, Outcome
from holdfast.core.driver import Driver
from holdfast.layers.layer import Layer


class Between(Layer):
    """Runs ``happens`` once, just before the next apply goes down."""

    def __init__(self, below: Driver) -> None:
        super().__init__(below)
        self.happens: Callable[[], object] | None = None

    def apply(
        self,
        tenant: str,
        changes: Sequence[Change],
        *,
        op_id: str | None = None,
        op_body: bytes | None = None,
    ) -> list[Outcome]:
        happens, self.happens = self.happens, None
        if happens is not None:
            happens()
        return self.below.apply(tenant, changes, op_id=op_id, op_body=op_body)
