"""Hostile search strings: an answer or a typed refusal, never another error, never a foreign row.

Every string goes through recall, the searches of conversations and tasks, and a key-value listing,
as three tenants whose rows share all their words. Each row carries its tenant's mark. What the
listing returns is compared with plain Python, what the searches return, now and then, with the
memory engine. Saboteurs: the raw string as FTS5's MATCH, and the raw string spliced into SQL.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import apsw

import holdfast
from holdfast.core.clock import ManualClock
from holdfast.core.errors import InvalidText, TooLarge
from holdfast.core.values import TEXT_LIMIT
from holdfast.storage import Storage
from soak.campaign import Result, Saboteur, Tick, chances, folder, ignore, timed
from soak.hostile import OPERATORS, PATHS, SQL, WORDS, draw, refused

TENANTS: Final = ("alpha", "beta", "x' OR '1'='1")
ROWS: Final = 12
K: Final = 100
"""More than there are rows, so that no tie is cut."""
COMPARED: Final = 20
"""Every so many-th string is also given to the memory engine."""
KEYS: Final = ("k", "100%", "a_b", "a%b", "aXb", "[a-z]", "ключ", "🧠x", "'; DROP", '"', "\\%", "*")

Answer = list[tuple[float, str]]
Call = Callable[[str], Answer]


@dataclass(frozen=True)
class Tenancy:
    """One tenant's calls, on the engine and on the reference."""

    mark: str
    calls: dict[str, Call]
    reference: dict[str, Call]


def run(strings: int, *, seed: int = 1, tick: Tick = ignore) -> Result:
    """So many strings through every call; the saboteurs get a tenth, at least 100."""
    trial = "hostile string through every search"
    result = Result(campaign="strings", trial=trial, trials=strings, seed=seed)
    with timed(result), folder() as place:
        path = str(place / "strings.db")
        # A clock that stands, so that both engines see every row as equally old.
        clock = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
        files = [holdfast.open(path, tenant=tenant, clock=clock) for tenant in TENANTS]
        plain = holdfast.open("memory:", clock=clock)
        tenancies = [
            _tenancy(number, file, plain.scoped(tenant=tenant))
            for number, (tenant, file) in enumerate(zip(TENANTS, files, strict=True))
        ]
        for number in range(strings):
            chance = chances(seed, "strings", number)
            text = draw(chance)
            one = tenancies[number % len(tenancies)]
            for finding in _try(one, text, result, compare=number % COMPARED == 0):
                result.note(f"string {number} ({text[:60]!r}): {finding}")
            tick(number + 1)
        result.count("calls_refused_as_too_large", _too_large(tenancies[0], result))
        for file in files:
            file.close()
        result.saboteurs += _saboteurs(place, max(100, strings // 10), seed)
    return result


def _try(one: Tenancy, text: str, result: Result, *, compare: bool) -> Iterable[str]:
    """Every call with one string."""
    must_refuse = refused(text)
    for name, call in one.calls.items():
        result.count(f"{name}_calls")
        try:
            answer = call(text)
        except InvalidText:
            result.count("calls_refused_as_no_text")
            if not must_refuse:
                yield f"{name} refused good text"
            continue
        except Exception as error:  # noqa: BLE001 - any other error is what is looked for
            yield f"{name} raised {type(error).__name__}: {error}"
            continue
        if must_refuse:
            yield f"{name} took text that cannot be stored"
        result.count(f"{name}_rows", len(answer))
        if any(one.mark not in found for _, found in answer):
            yield f"{name} returned another tenant's row"
        if name == "kv" and [found for _, found in answer] != _listed(one.mark, text):
            yield "kv listed other keys than those with the prefix"
        if compare and not _alike(answer, one.reference[name](text)):
            yield f"{name} differs from the memory engine"
    if compare:
        result.count("compared_with_memory_engine")


def _listed(mark: str, prefix: str) -> list[str]:
    keys = sorted(f"{key} {mark}" for key in KEYS)
    return [key for key in keys if key.startswith(prefix)]


def _too_large(one: Tenancy, result: Result) -> int:
    """Text one character beyond the limit is refused as such, everywhere."""
    count = 0
    for name, call in one.calls.items():
        try:
            call("a" * (TEXT_LIMIT + 1))
            result.note(f"{name} took text beyond the limit")
        except TooLarge:
            count += 1
    return count


def _tenancy(number: int, file: Storage, plain: Storage) -> Tenancy:
    mark = f"mark{number}mark"
    for storage in (file, plain):
        _plant(storage, mark)
    return Tenancy(mark, _calls(file), _calls(plain))


def _plant(storage: Storage, mark: str) -> None:
    conversation = storage.conversations.create(conversation_id=f"c-{mark}").id
    pieces = (*OPERATORS, *SQL, *PATHS)
    for row in range(ROWS):
        words = " ".join(WORDS[(row + n) % len(WORDS)] for n in range(1 + row % 5))
        text = f"{mark} {words} {pieces[row % len(pieces)]} {row}"
        storage.conversations.append(conversation, text, message_id=f"{mark}-{row}")
        storage.memory.remember(text)
        storage.tasks.post(text)
    for key in KEYS:
        storage.kv.set(f"{key} {mark}", key)


def _calls(storage: Storage) -> dict[str, Call]:
    def recall(text: str) -> Answer:
        found = storage.memory.recall(text, k=K)
        return _by_text((item.score, item.memory.content) for item in found)

    def messages(text: str) -> Answer:
        found = storage.conversations.search(text, k=K)
        return _by_text((item.score, item.message.text) for item in found)

    def tasks(text: str) -> Answer:
        return _by_text(
            (item.score, item.task.title) for item in storage.tasks.search(text, limit=K)
        )

    def kv(text: str) -> Answer:
        return [(0.0, entry.key) for entry in storage.kv.list(text, limit=K)]

    return {"recall": recall, "messages": messages, "tasks": tasks, "kv": kv}


def _by_text(found: Iterable[tuple[float, str]]) -> Answer:
    return sorted(found, key=lambda row: row[1])


def _alike(answer: Answer, reference: Answer) -> bool:
    """The same rows, and scores that differ by no more than 32-bit vectors do."""
    return [text for _, text in answer] == [text for _, text in reference] and all(
        math.isclose(ours, theirs, abs_tol=1e-5)
        for (ours, _), (theirs, _) in zip(answer, reference, strict=True)
    )


def _saboteurs(place: Path, strings: int, seed: int) -> list[Saboteur]:
    """The same strings to a search that takes them for grammar, and to one that splices them."""
    raw = Saboteur(name="raw text in FTS5 MATCH", trials=strings, counts={"raised": 0})
    counts = {"raised": 0, "foreign_rows": 0}
    spliced = Saboteur(name="raw text spliced into SQL", trials=strings, counts=counts)
    connection = apsw.Connection(str(place / "saboteur.db"))
    connection.execute("CREATE VIRTUAL TABLE found USING fts5(text)")
    connection.execute("CREATE TABLE rows (tenant TEXT, text TEXT)")
    for number in range(len(TENANTS)):
        text = f"mark{number}mark {' '.join(WORDS)}"
        connection.execute("INSERT INTO found VALUES (?)", (text,))
        connection.execute("INSERT INTO rows VALUES (?, ?)", (f"t{number}", text))
    for number in range(strings):
        text = draw(chances(seed, "strings", number))
        try:
            connection.execute("SELECT text FROM found WHERE found MATCH ?", (text,)).fetchall()
        except (apsw.Error, UnicodeError) as error:
            raw.note(f"{text[:40]!r} raised {type(error).__name__}")
            raw.counts["raised"] += 1
        try:
            query = f"SELECT text FROM rows WHERE tenant = 't0' AND text LIKE '%{text}%'"
            rows = connection.execute(query).fetchall()
        except (apsw.Error, UnicodeError, ValueError) as error:
            spliced.note(f"{text[:40]!r} raised {type(error).__name__}")
            counts["raised"] += 1
            continue
        if any("mark0mark" not in str(found) for (found, *_) in rows):
            spliced.note(f"{text[:40]!r} returned another tenant's row")
            counts["foreign_rows"] += 1
    connection.close()
    return [raw, spliced]
