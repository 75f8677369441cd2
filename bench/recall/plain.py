"""The recipe over arrays in memory: no database, so a figure here is the recipe's own.

A system for a conversation-recall harness: a class built with an embedder, fed turns with
metadata, and asked for ids. The other classes switch parts off, to show what each part adds.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec.structs
import numpy as np

from holdfast.core.ranker import Candidate, Ranker
from holdfast.core.ranking import BM25_B, BM25_K1, cosine_scores, idf
from holdfast.core.text import analyze, term_frequencies
from holdfast.recall.recipe import PLAIN, Recipe


class Plain:
    """The default recipe."""

    compose = "raw"
    recipe = Recipe()

    def __init__(self, embedder: Any, conv: dict[str, Any], **opts: Any) -> None:
        self.embedder = embedder
        self.ranker: Ranker = self.recipe
        self.ids: list[str] = []
        self.turns: list[dict[str, Any]] = []
        self.vectors: Any = np.zeros((0, 0), np.float32)
        self.postings: dict[str, list[tuple[int, int]]] = {}
        self.lengths: list[int] = []

    def ingest(self, items: Sequence[tuple[str, str, dict[str, Any]]]) -> None:
        vectors = self.embedder.encode([text for _, text, _ in items])
        self.vectors = np.concatenate([self.vectors, vectors]) if self.ids else vectors
        for key, text, meta in items:
            turn = _turn(meta)
            frequencies = term_frequencies(self.ranker.lexical_text(text, turn["time"]))
            for term, count in frequencies.items():
                self.postings.setdefault(term, []).append((len(self.ids), count))
            self.lengths.append(sum(frequencies.values()))
            self.turns.append(turn)
            self.ids.append(key)

    def search(self, query: str, k: int, filter: Any = None) -> list[str]:
        speakers = sorted({t["speaker"] for t in self.turns if t["speaker"]})
        prepared = self.ranker.prepare(query, speakers)
        scores = self._text(prepared.lexical)
        text = {int(i): float(scores[i]) for i in self._best(scores, scores > 0)}
        scores = cosine_scores(self.vectors, self.embedder.encode([prepared.dense])[0])
        vector = {int(i): float(scores[i]) for i in self._best(scores, scores > -1)}
        found = text.keys() | vector.keys()
        if self.ranker.neighbours:
            found = found | {i + step for i in found for step in (-1, 1)}
            found &= set(range(len(self.ids)))
        candidates = [
            Candidate(key=i, text_score=text.get(i), vector_score=vector.get(i), **self.turns[i])
            for i in found
        ]
        return [self.ids[r.key] for r in self.ranker.rank(prepared, candidates, k)]

    def close(self) -> None:
        """Nothing to close."""

    def _best(self, scores: Any, eligible: Any) -> Any:
        order = np.argsort(-scores, kind="stable")
        return order[eligible[order]][: self.ranker.candidates]

    def _text(self, query: str) -> Any:
        scores = np.zeros(len(self.ids))
        lengths = np.asarray(self.lengths, float)
        norms = BM25_K1 * (1 - BM25_B + BM25_B * lengths / lengths.mean())
        for term in sorted(set(analyze(query))):
            posting = np.asarray(self.postings.get(term, ()), int).reshape(-1, 2)
            at, count = posting[:, 0], posting[:, 1].astype(float)
            weight = idf(len(at), len(lengths)) * (BM25_K1 + 1)
            scores[at] += weight * count / (count + norms[at])
        return scores


def _turn(meta: dict[str, Any]) -> dict[str, Any]:
    instant = meta.get("ts")
    speaker = meta.get("speaker")
    return {
        "speaker": speaker,
        "session": None if meta.get("session") is None else str(meta["session"]),
        "turn": meta.get("turn"),
        "time": datetime.fromisoformat(instant).replace(tzinfo=UTC) if instant else None,
        "role": speaker if speaker in ("user", "assistant") else None,
    }


class Convex(Plain):
    """Names cut, dates indexed, then plain convex fusion."""

    recipe = Recipe(
        speaker_boost=0, previous_turn=0, next_turn=0, answer_turn=0, session_prior=0, date_boost=0
    )


class Rrf(Plain):
    """What most stores do: "Speaker: text" as one string, reciprocal rank fusion, k 60."""

    compose = "speaker"
    recipe = msgspec.structs.replace(PLAIN, fusion="rrf")


class RecipeWithRrf(Plain):
    """The recipe with ranks in place of scores."""

    recipe = Recipe(fusion="rrf")
