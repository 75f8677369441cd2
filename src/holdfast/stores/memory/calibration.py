"""How similar two memories are by chance, by which a threshold means the same for every model.

Models differ in what a cosine says: with one, unrelated texts score .1, with another .7. The
cosines of random pairs of a tenant's own memories show it, and "above 99 % of random pairs" is a
floor that can be given without knowing the model.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

import msgspec

from holdfast.core.change import Put
from holdfast.core.errors import NotFound
from holdfast.core.filter import eq
from holdfast.core.query import Query, asc
from holdfast.core.ranking import cosine_scores
from holdfast.core.values import check_count
from holdfast.stores.memory.base import MemoryStore
from holdfast.stores.memory.fields import check_between
from holdfast.stores.memory.records import MEMORIES, Space
from holdfast.stores.store import FACTS

FEWEST: Final = 10
"""Memories with vectors that a calibration needs."""
STEPS: Final = 1_000
"""The distribution is kept in thousandths, because thresholds lie near its upper end."""


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """The cosines of random pairs of memories in one space."""

    space: str
    memories: int
    """How many were compared, each with each."""
    cosines: list[float]
    """The smallest, the one that 0.1 % lie below, ... up to the largest: 1,001 of them."""
    calibrated_at: datetime

    def cosine_at(self, percentile: float) -> float:
        """The cosine below which ``percentile`` (0 to 100) of random pairs lie."""
        place = check_between("percentile", percentile, 0.0, 100.0) / 100.0 * STEPS
        low = min(int(place), STEPS - 1)
        return self.cosines[low] + (place - low) * (self.cosines[low + 1] - self.cosines[low])


class Calibrating(MemoryStore):
    """The part of `spaces` that knows the distribution of cosines."""

    def calibrate(self, *, sample: int = 1_000) -> Calibration:
        """Compare ``sample`` (10 to 5000) of the tenant's memories, and keep the distribution.

        The same memories give the same answer: they are taken by their fingerprints, which are
        as good as drawn. To be repeated when the memories have become others. NotFound for fewer
        than 10 memories with vectors.
        """
        import numpy as np

        check_count("sample", sample, FEWEST, 5_000)
        space = self._active_space()
        rows = [] if space is None else self._sampled(space, sample)
        if space is None or len(rows) < FEWEST:
            raise NotFound(f"There are fewer than {FEWEST} memories with vectors to compare.")
        matrix = np.stack([np.frombuffer(row[space.slot].data, "<f4") for row in rows])
        pairs = [cosine_scores(matrix[n + 1 :], row) for n, row in enumerate(matrix[:-1])]
        cosines = np.quantile(np.concatenate(pairs), np.linspace(0.0, 1.0, STEPS + 1))
        found = Calibration(
            space=space.id,
            memories=len(rows),
            cosines=[round(float(cosine), 6) for cosine in cosines],
            calibrated_at=self._now(),
        )
        self._apply(Put(FACTS.name, {"id": _fact(space.id), "value": msgspec.to_builtins(found)}))
        return found

    def calibration(self) -> Calibration | None:
        """The distribution that was kept for the active space, if one was."""
        space = self._active_space()
        return None if space is None else calibration_of(self, space)

    def _sampled(self, space: Space, sample: int) -> list[dict[str, Any]]:
        query = Query(
            collection=MEMORIES.name,
            filter=eq("space", space.id),
            order=asc("fingerprint"),
            limit=sample,
            vectors=True,
        )
        rows = self._driver.query(self._scope.tenant, query).records
        return [row for row in rows if row[space.slot] is not None]


def calibration_of(store: MemoryStore, space: Space) -> Calibration | None:
    """What is kept for the space."""
    fact = store._driver.get(store._scope.tenant, FACTS.name, (_fact(space.id),))
    return None if fact is None else msgspec.convert(fact["value"], Calibration)


def _fact(space_id: str) -> str:
    return f"calibration {space_id}"
