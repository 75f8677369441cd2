"""What a recall is asked for, checked before any I/O."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final, Literal

import msgspec

from holdfast.core.errors import Invalid
from holdfast.core.filter import Filter
from holdfast.core.values import check_bool, check_count, check_float, check_text, check_time
from holdfast.stores.memory.fields import check_between, check_one_of

Mode = Literal["hybrid", "vector", "keyword"]
MODES: Final = ("hybrid", "vector", "keyword")
ThresholdKind = Literal["score", "cosine", "percentile"]
THRESHOLD_KINDS: Final = ("score", "cosine", "percentile")
K_LIMIT: Final = 1_000
"""Most results of a recall and most hits of a leg."""


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """A recall's arguments, checked."""

    query: str | None
    vector: Any
    k: int
    mode: str
    threshold: float
    threshold_kind: str
    where: Filter | None
    now: datetime
    include_archived: bool
    rerank: bool
    ranker: Any
    explain: bool


def ask(**given: Any) -> Ask:
    """The arguments in canonical form, or Invalid naming the one that is wrong."""
    query, vector, threshold = given["query"], given["vector"], given["threshold"]
    checked = Ask(
        query=None if query is None else check_text("query", query),
        vector=vector,
        k=check_count("k", given["k"], 1, K_LIMIT),
        mode=check_one_of("mode", given["mode"], MODES),
        threshold=0.0 if threshold is None else check_float("threshold", threshold),
        threshold_kind=check_one_of("threshold_kind", given["threshold_kind"], THRESHOLD_KINDS),
        where=given["where"],
        now=check_time("as_of", given["now"]),
        include_archived=check_bool("include_archived", given["include_archived"]),
        rerank=check_bool("rerank", given["rerank"]),
        ranker=given["ranker"],
        explain=check_bool("explain", given["explain"]),
    )
    if query is None and vector is None:
        raise Invalid("query", expected="a query, a vector, or both", got="neither")
    if query is None and checked.mode == "keyword":
        raise Invalid("query", expected="a query for keyword recall", got="none")
    _check_threshold(checked)
    return checked


def _check_threshold(asked: Ask) -> None:
    if not asked.threshold or asked.threshold_kind == "score":
        return
    if asked.mode == "keyword":
        raise Invalid("threshold_kind", expected="score, in keyword recall", got="another kind")
    low, high = (-1.0, 1.0) if asked.threshold_kind == "cosine" else (0.0, 100.0)
    check_between("threshold", asked.threshold, low, high)
