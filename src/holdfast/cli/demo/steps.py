"""What the demo does with the play, step by step, through the public API."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from holdfast.cli.demo.play import Scene
from holdfast.storage import Storage
from holdfast.stores.conversations.appending import Draft
from holdfast.stores.memory import Recalled
from holdfast.stores.memory.fields import NewMemory

K: Final = 10
AGENT: Final = "reader"
"""What the demo notes for itself is this agent's; the play is everybody's."""


@dataclass(frozen=True)
class Question:
    """A question, and the words of the play that answer it: who says them, and where."""

    text: str
    scene: str
    speaker: str
    gold: str


QUESTIONS: Final = (
    Question("Who says that all the world is a stage?", "2.7", "JAQUES", "All the world's a stage"),
    Question(
        "How sweet are the uses of adversity?",
        "2.1",
        "DUKE SENIOR",
        "Sweet are the uses of adversity",
    ),
    Question(
        "How many ribs did the wrestler Charles break?", "1.2", "LE BEAU", "three of his ribs"
    ),
    Question(
        "What name does Rosalind take when she goes as a man?",
        "1.3",
        "ROSALIND",
        "call me Ganymede",
    ),
    Question("How many crowns did Adam save in his service?", "2.3", "ADAM", "five hundred crowns"),
    Question(
        "Which wild animal did Orlando fight to save his brother?",
        "4.3",
        "OLIVER",
        "battle to the lioness",
    ),
    Question("Have men ever died for love?", "4.1", "ROSALIND", "but not for love"),
    Question(
        "Who ever loved without love at first sight?",
        "3.5",
        "PHEBE",
        "loved that loved not at first sight",
    ),
)


@dataclass(frozen=True)
class Ingested:
    """What was stored, and how long it took."""

    scenes: int
    messages: int
    memories: int
    seconds: float


@dataclass(frozen=True)
class Row:
    """A result of a recall: which row, how it scored, and which legs found it."""

    rank: int
    id: str
    score: float
    legs: tuple[str, ...]
    speaker: str
    scene: str
    content: str


@dataclass(frozen=True)
class Answer:
    """What recall gave for a question."""

    question: Question
    known: Row | None
    """The row with the words that are known to answer; None when not among the first ten."""
    first: Row
    milliseconds: float


@dataclass(frozen=True)
class Change:
    """A step that changes what is recalled: what was asked, and the answers before and after."""

    what: str
    question: str
    before: str
    after: str
    call: str


def ingest(storage: Storage, scenes: list[Scene], advance: Callable[[int], None]) -> Ingested:
    """Keep each scene as a conversation, each speech as a message, each passage as a memory."""
    started, done = time.perf_counter(), 0
    for scene in scenes:
        conversation = storage.conversations.create(
            key=f"as-you-like-it/{scene.name}", title=f"{scene.name} {scene.place}"
        )
        speakers = dict.fromkeys(speech.speaker for speech in scene.speeches)
        participants = {
            name: storage.conversations.participants.add(
                conversation.id, external_id=name, name=name
            ).id
            for name in speakers
        }
        storage.conversations.append_many(
            conversation.id,
            [Draft(text=s.text, sender_id=participants[s.speaker]) for s in scene.speeches],
        )
        storage.memory.remember_many(
            [
                NewMemory(
                    content=passage,
                    kind="message",
                    speaker=speaker.title(),
                    session=scene.name,
                    turn=turn,
                )
                for turn, (speaker, passage) in enumerate(_passages(scene), 1)
            ]
        )
        done += len(scene.speeches)
        advance(done)
    return Ingested(len(scenes), done, storage.memory.stats().live, time.perf_counter() - started)


def ask(storage: Storage, question: Question) -> Answer:
    """Recall an answer, and look for the words that are known to give it."""
    started = time.perf_counter()
    found = storage.memory.recall(question.text, k=K)
    spent = (time.perf_counter() - started) * 1_000
    rows = [_row(rank, item) for rank, item in enumerate(found, 1)]
    known = next((row for row in rows if question.gold in row.content), None)
    return Answer(question=question, known=known, first=rows[0], milliseconds=spent)


def _row(rank: int, item: Recalled) -> Row:
    return Row(
        rank=rank,
        id=item.memory.id,
        score=item.score,
        legs=item.legs,
        speaker=item.memory.speaker or "",
        scene=item.memory.session or "",
        content=" ".join(item.memory.content.split()),
    )


def supersede(storage: Storage, now: datetime) -> Change:
    """Replace what is no longer true; an earlier instant still finds what was true then."""
    notes = storage.with_agent(AGENT)
    court = notes.memory.remember(
        "Rosalind lives at the court of Duke Frederick.", valid_from=now - timedelta(days=2)
    )
    forest = notes.memory.remember(
        "Rosalind lives in the Forest of Arden, as Ganymede.", valid_from=now - timedelta(days=1)
    )
    notes.memory.history.supersede(
        court.id, forest.id, at=now - timedelta(days=1), by="holdfast demo"
    )
    question = "Where does Rosalind live?"
    return Change(
        what="superseded, then asked as of before",
        question=question,
        before=_first(notes, question, as_of=now - timedelta(hours=36)),
        after=_first(notes, question),
        call="memory.history.supersede(old, new), recall(query, as_of=instant)",
    )


def forget(storage: Storage) -> Change:
    """Take a memory out of every search at once."""
    notes = storage.with_agent(AGENT)
    secret = notes.memory.remember("The password of the duke's orchard is 'Touchstone'.")
    question = "What is the password of the orchard?"
    before = _first(notes, question, mode="keyword")
    notes.memory.forget(secret.id)
    return Change(
        what="forgotten",
        question=question,
        before=before,
        after=_first(notes, question, mode="keyword"),
        call="memory.forget(id)",
    )


def _passages(scene: Scene) -> Iterator[tuple[str, str]]:
    for speech in scene.speeches:
        for passage in speech.passages():
            yield speech.speaker, passage


def _first(storage: Storage, question: str, **options: object) -> str:
    found = storage.memory.recall(question, k=1, **options)  # type: ignore[arg-type]
    return found[0].memory.content if found else "(nothing)"
