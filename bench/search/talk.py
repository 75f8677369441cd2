"""The sheet of one recall in a conversation: everything that is not the making of its vector."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import holdfast
from bench.measure import Contender, Figures, Goal, Sheet
from bench.search.data import TOP, Texts, Vectors
from bench.search.settled import settle
from bench.search.turns import in_turns, middle
from bench.systems import Given
from holdfast.stores.memory.fields import NewMemory

TURNS: Final = 1_000
QUERIES: Final = 100
SESSION: Final = 25
"""Turns of a session."""
SPEAKERS: Final = ("Ada", "Ben")
START: Final = datetime(2026, 1, 5, 9, tzinfo=UTC)
PARTS: Final = ("keyword", "vector", "hybrid")


class TalkSheet:
    """Two people over forty sessions; every second question names one of them."""

    def __init__(self, *, quick: bool) -> None:
        self._count, self._queries = (60, 3) if quick else (TURNS, QUERIES)

    def sheet(self, rounds: int) -> Sheet:
        """Recall alone by words, alone by vector, and as it is by default."""
        return Sheet(
            name="search-talk-1k",
            title=f"One recall in {self._count:,} turns, beyond its query's vector",
            figure="ms",
            base="keyword",
            rounds=rounds,
            contenders=tuple(
                Contender(
                    name,
                    goals=(Goal(3, figure="ms", sense="at most"),) if name == "hybrid" else (),
                )
                for name in PARTS
            ),
            together=self._together,
            notes="Medians of calls in turns through memory.recall; hybrid is the default, with"
            " speakers, sessions, neighbours and dates. Vectors are given, and not waited for in a"
            " thread of their own (embed_seconds=None).",
        )

    def _together(self, folder: Path) -> dict[str, Figures]:
        texts = Texts.make(self._count, self._queries)
        vectors = Vectors.make(self._count, self._queries)
        known = dict(zip(texts.documents, vectors.rows, strict=True))
        asked = [" ".join(words) for words in texts.queries]
        known |= dict(zip(asked, vectors.queries, strict=True))
        # A name is cut from what is embedded, so that both have one vector.
        questions = [f"{text} {SPEAKERS[0]}" if n % 2 else text for n, text in enumerate(asked)]
        turns = [
            NewMemory(
                content=text,
                session=f"s{n // SESSION}",
                turn=n % SESSION,
                speaker=SPEAKERS[n % 2],
                said_at=START + timedelta(hours=n),
            )
            for n, text in enumerate(texts.documents)
        ]
        known |= dict(zip(questions, vectors.queries, strict=True))
        with holdfast.open(
            str(folder / "talk.db"), embedder=Given(known), embed_seconds=None
        ) as storage:
            storage.memory.remember_many(turns)
            settle(storage._driver)
            calls: dict[str, Any] = {
                "keyword": lambda text: storage.memory.recall(text, k=TOP, mode="keyword"),
                "vector": lambda text: storage.memory.recall(text, k=TOP, mode="vector"),
                "hybrid": lambda text: storage.memory.recall(text, k=TOP),
            }
            times = in_turns(calls, questions)
        return {name: {"ms": middle(times[name])} for name in PARTS}
