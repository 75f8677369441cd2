"""Layers that cases look through: a race that is certain, and a count of calls."""

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


class Counting(Layer):
    """Counts the reads and writes that pass."""

    def __init__(self, below: Driver) -> None:
        super().__init__(below)
        self.calls: list[str] = []

    def get(self, *arguments: object, **options: object) -> object:  # type: ignore[override]
        self.calls.append("get")
        return self.below.get(*arguments, **options)  # type: ignore[arg-type]

    def query(self, *arguments: object) -> object:  # type: ignore[override]
        self.calls.append("query")
        return self.below.query(*arguments)  # type: ignore[arg-type]

    def apply(self, *arguments: object, **options: object) -> object:  # type: ignore[override]
        self.calls.append("apply")
        return self.below.apply(*arguments, **options)  # type: ignore[arg-type]

    def aggregate(self, *arguments: object) -> object:  # type: ignore[override]
        self.calls.append("aggregate")
        return self.below.aggregate(*arguments)  # type: ignore[arg-type]

    def search(self, *arguments: object) -> object:  # type: ignore[override]
        self.calls.append("search")
        return self.below.search(*arguments)  # type: ignore[arg-type]
