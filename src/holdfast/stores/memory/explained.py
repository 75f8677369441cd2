"""What a recall did, step by step: as data in `Recollection.stages`, and as text made from it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from holdfast.core.ranker import PreparedQuery, Ranked, Ranker
from holdfast.core.values import Vector
from holdfast.core.visible import visible
from holdfast.stores.memory.asked import Ask
from holdfast.stores.memory.found import Found

RAW: Final = ("bm25", "cosine")
"""Parts that are a leg's own score and not added up."""
ADDED: Final = ("text", "vector", "speaker", "neighbours", "session", "date")
"""Stages of the recipe, in the order in which they add."""


def query_stage(asked: str | None, prepared: PreparedQuery) -> dict[str, Any]:
    """How the query was read."""
    return {
        "asked": asked,
        "text_leg": prepared.lexical,
        "vector_leg": prepared.dense,
        "names_cut": list(prepared.speakers) if prepared.lexical != prepared.text else [],
        "speakers": list(prepared.speakers),
        "periods": [
            {"start": p.start.isoformat(), "end": p.end.isoformat(), "yearly": p.yearly}
            for p in prepared.periods
        ],
    }


def vector_stage(vector: Vector | None, *, given: bool) -> dict[str, Any]:
    """The space that was searched, and where the query's vector comes from."""
    if vector is None:
        return {"space": None, "query_vector": None}
    made_by = "caller" if given else "embedder"
    told = {"space": vector.space, "width": vector.width, "made_by": made_by}
    return {"space": vector.space, "query_vector": told}


def found_stage(found: Found) -> dict[str, int]:
    """How many each look-up brought."""
    legs = found.text.keys() | found.vector.keys()
    return {
        "text": len(found.text),
        "vector": len(found.vector),
        "chunks": len(found.spans),
        "neighbours": len(set(found.ids) - legs),
    }


def threshold_stage(asked: Ask, cosine: float | None) -> dict[str, Any] | None:
    """The floor as it was given, and as a cosine where it is one; None without."""
    if not asked.threshold:
        return None
    told = {"given": asked.threshold, "kind": asked.threshold_kind}
    return told if cosine is None else {**told, "cosine": cosine}


def unlifted(candidates: Mapping[str, Any]) -> dict[str, str]:
    """Why those have no rank that only stand beside a hit."""
    return {k: "not lifted by a neighbour" for k, one in candidates.items() if one["rank"] is None}


def order_stage(ranker: Ranker) -> dict[str, Any]:
    """Which recipe ordered the candidates, with its constants where it tells them."""
    told = msgspec.structs.asdict(ranker) if isinstance(ranker, msgspec.Struct) else {}
    plain = {k: v for k, v in told.items() if isinstance(v, str | int | float | bool | None)}
    return {"ranker": type(ranker).__name__, **plain}


def candidates_stage(ranked: Sequence[Ranked], found: Found) -> dict[str, Any]:
    """Every candidate in the ranker's order: which legs found it, raw scores, what each step gave.

    Those without a score that their neighbours did not lift come last, without a rank.
    """
    told: dict[str, Any] = {}
    for rank, one in enumerate(ranked, 1):
        told[one.key] = {"rank": rank, "score": one.score, "legs": list(one.legs)}
        told[one.key] |= {"parts": dict(one.parts), **raw_scores(one.key, found)}
    for key in sorted(set(found.ids) - told.keys()):
        told[key] = {"rank": None, "score": 0.0, "legs": [], "parts": {}}
    return told


def raw_scores(key: str, found: Found) -> dict[str, float]:
    """What each leg itself said of a candidate."""
    legs = zip(RAW, (found.text, found.vector), strict=True)
    return {name: scores[key] for name, scores in legs if key in scores}


def reranked_stage(before: Sequence[Ranked], scores: Mapping[str, float]) -> list[dict[str, Any]]:
    """What a reranker read, in its order: its score, and the place before it read."""
    places = {one.key: place for place, one in enumerate(before, 1)}
    order = sorted(scores, key=lambda key: (-scores[key], places[key]))
    return [
        {"id": key, "score": scores[key], "before": places[key], "after": place}
        for place, key in enumerate(order, 1)
    ]


def explained_text(items: Sequence[Any], stages: Mapping[str, Any]) -> str:
    """The steps in the order in which they were taken, and what each gave to each result."""
    lines = [f"{name:<8} {visible(told)}" for name, told in _steps(stages) if told]
    return "\n".join(lines + _table(items))


def _steps(stages: Mapping[str, Any]) -> list[tuple[str, str]]:
    query, order = stages.get("query", {}), stages.get("order", {})
    periods = [f"{p['start'][:10]} to {p['end'][:10]}" for p in query.get("periods", ())]
    vector = stages.get("query_vector")
    legs = [f"text {stages.get('text', 0)}", f"vector {stages.get('vector', 0)}"]
    more = ("chunks", "neighbours", "archived")
    legs += [f"{name} {stages[name]}" for name in more if stages.get(name)]
    cuts = Counter(_kind_of(reason) for reason in stages.get("cut", {}).values())
    reranked = stages.get("reranked") or ()
    moved = sum(one["before"] != one["after"] for one in reranked)
    floor = stages.get("threshold")
    return [
        ("words", " ".join(stages.get("terms", ()))),
        ("names", ", ".join(query.get("speakers", ()))),
        ("dates", ", ".join(periods)),
        ("vector", f"{vector['space']}, by the {vector['made_by']}" if vector else "none"),
        ("found", ", ".join(legs) + f" (asked {stages.get('width', 0)} of each)"),
        ("order", _order_text(order)),
        ("rerank", f"{stages['reranker']} read {len(reranked)}, moved {moved}" if reranked else ""),
        ("floor", _floor_text(floor)),
        ("cut", ", ".join(f"{reason}: {count}" for reason, count in sorted(cuts.items()))),
    ]


def _order_text(order: Mapping[str, Any]) -> str:
    """The recipe with its main constants; all of them are in the data."""
    names = ("fusion", "text_weight", "vector_weight")
    told = [f"{name} {order[name]}" for name in names if name in order]
    return ", ".join([str(order.get("ranker", "")), *told])


def _floor_text(floor: Mapping[str, Any] | None) -> str:
    if floor is None:
        return ""
    told = f"{floor['kind']} {floor['given']:g}"
    return told if floor["kind"] == "score" else f"{told} = cosine {floor['cosine']:.3f}"


def _kind_of(reason: str) -> str:
    return reason.partition(" as ")[0]


def _table(items: Sequence[Any]) -> list[str]:
    """A line per result: its score, what each step added, and what the legs said."""
    held = {name for item in items for name in item.parts}
    names = [name for name in (*ADDED, *sorted(held - {*ADDED, *RAW}), *RAW) if name in held]
    if any(item.rerank_score is not None for item in items):
        names.append("rerank")
    if not names:
        return []
    widths = [max(len(name), 6) for name in names]
    heads = " ".join(f"{name:>{width}}" for name, width in zip(names, widths, strict=True))
    lines = [f"{'':>3}  {'score':>6}  {heads}"]
    for number, item in enumerate(items, 1):
        parts = {**item.parts, "rerank": item.rerank_score}
        cells = " ".join(
            f"{'' if parts.get(name) is None else format(parts[name], '.3f'):>{width}}"
            for name, width in zip(names, widths, strict=True)
        )
        lines.append(f"{number:>3}  {item.score:6.3f}  {cells}".rstrip())
    return lines
