"""`holdfast export` and `holdfast import`: memories and conversations as lines of JSON.

The lines of memories are those of `memory.transfer`, so either reads what the other wrote. An
import may be repeated: what is there already stays as it is.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import click
import msgspec

from holdfast.cli import output
from holdfast.cli.command import Leaf, opened
from holdfast.cli.consent import rehearsed
from holdfast.cli.files import write_lines
from holdfast.cli.progress import counted, progress
from holdfast.core.errors import Conflict, Invalid, NotFound
from holdfast.core.record_type import place_of
from holdfast.core.values import check_count
from holdfast.storage import Storage
from holdfast.stores.conversations.appending import Draft
from holdfast.stores.conversations.records import Conversation, Message, Participant
from holdfast.stores.memory.transfer import record_of

FORMAT: Final = "holdfast.export"
VERSION: Final = 1
BATCH: Final = 500
KINDS: Final[dict[str, type[Conversation | Participant | Message]]] = {
    "conversation": Conversation,
    "participant": Participant,
    "message": Message,
}
REPORT: Final = ("conversations", "messages", "memory_records", "unchanged", "refused")


@click.command("export", cls=Leaf, short_help="Write memories and conversations as JSON Lines.")
@click.argument("file", default="-")
@click.option("--force", is_flag=True, help="Write over FILE if it is there.")
def export_store(file: str, force: bool) -> None:
    """Write memories and conversations to FILE, or to standard output, as JSON Lines.

    What the store is bound to is what goes along: with --agent, that agent's. For a copy of
    everything, tasks and audit log included, see `holdfast backup`.
    """
    with opened() as storage, progress("export", None, "lines") as advance:
        if file == "-":
            for line in counted(exported(storage), advance):
                click.echo(line)
            return
        if os.path.exists(file) and not force:
            raise Conflict(
                "The target of the export exists.", hint="Choose a new path, or --force."
            )
        count = write_lines(file, counted(exported(storage), advance))
    output.one({"target": os.path.abspath(file), "lines": count}, ("target", "lines"))


@click.command("import", cls=Leaf, short_help="Read what export wrote.")
@click.argument("file", default="-")
@click.option("--dry-run", is_flag=True, help="Count and check the lines, and write nothing.")
def import_store(file: str, dry_run: bool) -> int:
    """Read what `holdfast export` wrote from FILE, or from standard input.

    All of FILE is checked before anything is written, and what comes through standard input line
    by line. What is there already stays as it is, so an import that was cut short is simply
    repeated. The exit status is 1 when something was refused because the store holds it with other
    values.
    """
    if dry_run or os.path.isfile(file):  # a pipe can be read once only
        with _source(file) as lines:
            counts = _checked(lines)
        if dry_run:
            rehearsed(f"read {sum(counts.values())} records")
            output.one(counts, tuple(counts))
            return 0
    with (
        _source(file) as lines,
        opened(create=True) as storage,
        progress("import", None, "lines") as advance,
    ):
        taking = Taking(storage)
        done = storage.memory.transfer.import_lines(taking.memories(counted(lines, advance)))
        taking.flush()
    told = {
        "conversations": taking.conversations,
        "messages": taking.messages,
        "memory_records": done.written,
        "unchanged": taking.unchanged + done.unchanged,
        "refused": taking.refused + done.refused,
    }
    output.one(told, REPORT)
    return 1 if told["refused"] else 0


def exported(storage: Storage) -> Iterator[str]:
    """The lines of an export: conversations with their parts, then memories."""
    yield _line({"format": FORMAT, "version": VERSION})
    cursor = None
    while True:
        page = storage.conversations.list(limit=200, cursor=cursor)
        for held in page.items:
            yield _line({"kind": "conversation", "record": held})
            for participant in _all(storage.conversations.participants.list, held.id):
                yield _line({"kind": "participant", "record": participant})
            for message in _all(storage.conversations.messages.page, held.id):
                yield _line({"kind": "message", "record": message})
        cursor = page.next_cursor
        if cursor is None:
            break
    yield from storage.memory.transfer.export_lines()


class Taking:
    """Takes the lines of conversations out of a stream and writes them, in batches."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._handles: dict[str, Storage] = {}
        self._drafts: list[Draft] = []
        self._of = ""
        self._known: set[str] = set()
        self._refused = False
        self.conversations = 0
        self.messages = 0
        self.unchanged = 0
        self.refused = 0

    def memories(self, lines: Iterable[str]) -> Iterator[str]:
        """What is left for the memories; an empty line for each that was taken out.

        So a line that is refused there is named by its number in the file.
        """
        for number, line in enumerate(lines):
            kind, record = parsed(number, line)
            if kind in KINDS:
                self._take(number, kind, record)
            yield "" if kind in (*KINDS, "header") else line
        self.flush()

    def flush(self) -> None:
        """Write the messages that wait."""
        if self._drafts:
            self._handles[self._of].conversations.append_many(self._of, self._drafts)
            self.messages += len(self._drafts)
            self._drafts = []

    def _take(self, number: int, kind: str, record: Any) -> None:
        held = built(number, kind, record)
        if isinstance(held, Conversation):
            self._conversation(held)
        elif isinstance(held, Participant):
            self._participant(number, held)
        else:
            self._message(number, held)

    def _conversation(self, held: Conversation) -> None:
        self.flush()
        scope = {name: getattr(held, name) for name in ("agent", "user", "namespace")}
        bound = self._storage.scope.bound()
        for part, value in scope.items():
            if bound.get(part, value) != value:
                raise Invalid(part, expected=f"a conversation of this {part}", got="another's")
        handle = self._storage.scoped(**{part: value or None for part, value in scope.items()})
        self._of, self._known = held.id, set()
        self._handles = {held.id: handle}
        self._refused = False
        if handle.conversations.get(held.id) is None:
            made = handle.conversations.create(
                key=held.key,
                title=held.title,
                metadata=held.metadata,
                conversation_id=held.id,
                created_at=held.created_at,
            )
            if made.id != held.id:  # another one has its key, and keeps it
                self._refused = True
                self.refused += 1
                return
            self.conversations += 1
        else:
            self.unchanged += 1
            known = _all(handle.conversations.messages.page, held.id)
            self._known = {message.id for message in known}
        if held.summary is not None or held.status != "open":
            handle.conversations.update(held.id, summary=held.summary, status=held.status)

    def _participant(self, number: int, held: Participant) -> None:
        if held.conversation_id != self._of:
            raise _out_of_place(number)
        participants = self._handles[self._of].conversations.participants
        if not self._refused and participants.get(held.id) is None:
            participants.add(
                held.conversation_id,
                external_id=held.external_id,
                type=held.type,
                name=held.name,
                email=held.email,
                metadata=held.metadata,
                participant_id=held.id,
            )

    def _message(self, number: int, held: Message) -> None:
        if held.conversation_id != self._of:
            raise _out_of_place(number)
        if self._refused:
            return
        if held.id in self._known:
            self.unchanged += 1
            return
        names = set(Draft.__struct_fields__)
        fields = {n: v for n, v in msgspec.structs.asdict(held).items() if n in names}
        self._drafts.append(Draft(**fields))
        if len(self._drafts) >= BATCH:
            self.flush()


def parsed(number: int, line: str) -> tuple[str, Any]:
    """The kind and the record of a line; "header" for a header, "" for nothing."""
    if not line.strip():
        return "", None
    try:
        found = msgspec.json.decode(line)
        if "format" in found:
            name = f"line {number + 1} version"
            check_count(name, found.get("version"), 1, VERSION)
            return "header", None
        return str(found["kind"]), found["record"]
    except Invalid:
        raise
    except (msgspec.MsgspecError, KeyError, TypeError, ValueError):
        raise _strange(number) from None


def built(number: int, kind: str, record: Any) -> Conversation | Participant | Message:
    """A record of a conversation, or Invalid naming the line and the field."""
    try:
        return msgspec.convert(record, KINDS[kind])
    except msgspec.ValidationError as error:
        field = f"line {number + 1}.{place_of(error)}"
        raise Invalid(field, expected=f"what a {kind} has there", got="another value") from None


def _strange(number: int) -> Invalid:
    return Invalid(f"line {number + 1}", expected="a record of an export", got="something else")


def _out_of_place(number: int) -> Invalid:
    return Invalid(
        f"line {number + 1}", expected="a record below its conversation", got="another's"
    )


def _checked(lines: Iterable[str]) -> dict[str, int]:
    """How many records of each kind there are, each of which was checked by itself."""
    counts: dict[str, int] = {}
    for number, line in enumerate(lines):
        kind, record = parsed(number, line)
        if kind in ("", "header"):
            continue
        if kind in KINDS:
            built(number, kind, record)
        else:
            record_of(number, line)
        counts[kind] = counts.get(kind, 0) + 1
    return counts


@contextmanager
def _source(file: str) -> Iterator[Iterator[str]]:
    if file != "-":
        if not os.path.exists(file):
            raise NotFound(f"There is no file at {file}.")
        with open(file, "rb") as opened_file:
            yield _decoded(opened_file)
        return
    if sys.stdin is None or sys.stdin.closed:
        raise Invalid("file", expected="lines on standard input", got="a closed one")
    yield _decoded(sys.stdin.buffer)


def _decoded(source: Iterable[bytes]) -> Iterator[str]:
    for number, line in enumerate(source):
        try:
            yield line.decode("utf-8")
        except UnicodeDecodeError:
            raise _strange(number) from None


def _all(page: Any, conversation_id: str) -> Iterator[Any]:
    cursor = None
    while True:
        found = page(conversation_id, limit=1_000, cursor=cursor)
        yield from found.items
        cursor = found.next_cursor
        if cursor is None:
            return


def _line(value: object) -> str:
    return msgspec.json.encode(value).decode()
