"""What writers write and what must be found again: names whose content follows from the name."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final

from holdfast.backends.sqlite import SqliteDriver
from holdfast.backends.sqlite.connection import Durability
from holdfast.core.driver import Driver
from holdfast.core.errors import HoldfastError
from holdfast.core.runtime import Runtime
from holdfast.core.scope import Scope
from holdfast.layers.check import Checked
from holdfast.storage import Storage, all_collections
from holdfast.stores.conversations.appending import Draft

TENANT: Final = "soak"
ALWAYS_ASK: Final = {"breaker_failures": 0}
"""A server that is killed is to be met again as soon as it is back."""
THREAD_KEY: Final = "thread"
GROUP: Final = 3
"""How many messages an ``append_many`` of the workload holds."""
WORDS: Final = (
    "acknowledged means on disk whatever happens to power process or kernel and a page that is"
    " torn in the middle is found by its checksum naïve Grüße 東京 память ذاكرة 🧠 zero-width"
).split()


def content(name: str) -> str:
    """The text that belongs to a name: mostly short, sometimes of many pages."""
    chance = random.Random(name)
    count = chance.choice((3, 8, 20, 60, 400)) if chance.random() < 0.97 else 6_000
    return f"{name} " + " ".join(chance.choices(WORDS, k=count))


class Workload:
    """Writes through the public stores, one acknowledged name after the other."""

    def __init__(self, storage: Storage, prefix: str, kinds: Iterable[str] = ()) -> None:
        self._storage = storage
        self._prefix = prefix
        self._conversation = ""
        self._chance = random.Random(prefix)
        known: dict[str, Callable[[str], None]] = {
            "kv": self._set,
            "message": self._append,
            "many": self._append_many,
            "unit": self._unit,
            "memory": self._remember,
        }
        self._verbs = {kind: known[kind] for kind in (tuple(kinds) or known)}
        self._count = 0

    def prepare(self) -> None:
        """Find or make the conversation that all writers of the file share."""
        self._conversation = self._storage.conversations.create(key=THREAD_KEY).id

    def next_name(self) -> str:
        """What the next write will be called: its kind and a name."""
        self._count += 1
        return f"{self._chance.choice(tuple(self._verbs))}/{self._prefix}.{self._count}"

    def write(self, name: str) -> None:
        """Do the write that a name stands for; when this returns, it is promised."""
        self._verbs[name.partition("/")[0]](name)

    def _set(self, name: str) -> None:
        self._storage.kv.set(name, {"text": content(name)})

    def _append(self, name: str) -> None:
        self._storage.conversations.append(self._conversation, content(name), message_id=name)

    def _append_many(self, name: str) -> None:
        ids = [f"{name}/{n}" for n in range(GROUP)]
        drafts = [Draft(text=content(id), id=id) for id in ids]
        self._storage.conversations.append_many(self._conversation, drafts)

    def _unit(self, name: str) -> None:
        with self._storage.unit() as unit:
            unit.kv.set(name, {"text": content(name)})
            unit.conversations.append(self._conversation, content(name), message_id=name)

    def _remember(self, name: str) -> None:
        self._storage.memory.remember(content(name))


class Held(dict[str, set[str]]):
    """Names found in a store, by where they were found."""

    @property
    def all(self) -> set[str]:
        """Every name."""
        return set().union(*self.values())


def read(storage: Storage, findings: list[str]) -> Held:
    """Everything the workload has written; what is not whole is added to the findings."""
    held = Held(entries=set(), messages=set(), memories=set())
    cursor: str | None = None
    while True:
        page = storage.kv.list(limit=1_000, cursor=cursor)
        for entry in page:
            held["entries"].add(entry.key)
            if entry.value != {"text": content(entry.key)}:
                findings.append(f"torn: the entry {entry.key} is not what was written")
        cursor = page.next_cursor
        if cursor is None:
            break
    _read_messages(storage, held, findings)
    _read_memories(storage, held, findings)
    for kind, names in _groups(held).items():
        findings.extend(f"torn: {kind} {name} is there in part" for name in names)
    return held


def keys_of(storage: Storage) -> list[str]:
    """The keys of all entries."""
    keys: list[str] = []
    cursor: str | None = None
    while True:
        page = storage.kv.list(limit=200, cursor=cursor)
        keys.extend(entry.key for entry in page)
        cursor = page.next_cursor
        if cursor is None:
            return keys


def _read_messages(storage: Storage, held: Held, findings: list[str]) -> None:
    thread = storage.conversations.get_by_key(THREAD_KEY)
    if thread is None:
        return
    messages = storage.conversations.messages.recent(thread.id, 0)
    for message in messages:
        held["messages"].add(message.id)
        if message.text != content(message.id):
            findings.append(f"torn: the message {message.id} is not what was written")
    if [m.sequence for m in messages] != list(range(1, len(messages) + 1)):
        findings.append("torn: the sequence of the messages has gaps or repeats")
    if thread.message_count != len(messages):
        findings.append(f"torn: counted {thread.message_count} messages, {len(messages)} are there")


def _read_memories(storage: Storage, held: Held, findings: list[str]) -> None:
    cursor: str | None = None
    while True:
        page = storage.memory.list(limit=1_000, cursor=cursor)
        for memory in page:
            name = memory.content.partition(" ")[0]
            held["memories"].add(name)
            if memory.content != content(name):
                findings.append(f"torn: the memory {name} is not what was written")
        cursor = page.next_cursor
        if cursor is None:
            break


def _groups(held: Held) -> dict[str, set[str]]:
    """Names of writes of several parts of which some parts are missing."""
    entries = {n for n in held["entries"] if n.startswith("unit/")}
    messages = {n for n in held["messages"] if n.startswith("unit/")}
    parts = Counter(n.rpartition("/")[0] for n in held["messages"] if n.startswith("many/"))
    return {
        "the unit": entries ^ messages,
        "the group": {name for name, count in parts.items() if count != GROUP},
    }


def names_of(held: Held) -> set[str]:
    """Names as the writers acknowledged them."""
    return {n.rpartition("/")[0] if n.startswith("many/") else n for n in held.all}


def storage_on(driver: Driver) -> Storage:
    """A handle as `holdfast.open` makes it, on a driver that a campaign has chosen."""
    driver.setup(all_collections())
    return Storage(driver, Scope(tenant=TENANT), Runtime())


def judge(
    path: str,
    promised: Iterable[str],
    known: Iterable[str] = (),
    *,
    durability: Durability = "full",
) -> tuple[Held, list[str]]:
    """Open a file as any user would and compare it with what was promised.

    ``known`` was seen in the file before, so that it must still be there too.
    """
    try:
        driver = Checked(SqliteDriver(path, durability=durability))
    except HoldfastError as error:
        return Held(), [f"corrupt: opening said {type(error).__name__}: {error.message}"]
    return judged(driver, promised, known)


def judged(
    driver: Driver, promised: Iterable[str], known: Iterable[str] = ()
) -> tuple[Held, list[str]]:
    """Compare what a driver's store holds with what was promised, and close it."""
    findings: list[str] = []
    try:
        with storage_on(driver) as storage:
            held = read(storage, findings)
            report = driver.maintain("integrity")
            findings.extend(f"corrupt: {finding}" for finding in report.findings)
            storage.kv.set("probe", {"text": content("probe")})
    except HoldfastError as error:
        return Held(), [f"corrupt: opening or reading said {type(error).__name__}: {error.message}"]
    except Exception as error:  # noqa: BLE001 - damage must be told by a typed error
        return Held(), [f"corrupt, and not told as such: {type(error).__name__}: {error}"]
    names, promises = names_of(held), set(promised)
    findings.extend(f"lost: {name}" for name in sorted(promises - names))
    findings.extend(f"vanished: {name}" for name in sorted(set(known) - names - promises))
    return held, findings
