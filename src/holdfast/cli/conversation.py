"""`holdfast conversation`: threads of messages."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, cast

import click
import msgspec

from holdfast.cli import output
from holdfast.cli.command import Noun, opened, paged
from holdfast.cli.consent import confirm, destroys
from holdfast.cli.values import INSTANT, given, pairs_of, text_of
from holdfast.core.errors import NotFound
from holdfast.storage import Storage
from holdfast.stores.conversations.records import Conversation, Message
from holdfast.stores.store import Page

COLUMNS = ("id", "key", "title", "?status", "message_count", "?updated_at")
DETAILS = (*COLUMNS, "summary", "first_inbound", "head", "token_count", "metadata", "created_at")
MESSAGES = ("?id", "sequence", "role", "sender", "?created_at", "text")
EMBEDDED = ("made", "embedded", "missing", "waiting", "parked")
ROLES = click.Choice(["user", "assistant", "system", "tool"])


@click.group(cls=Noun, short_help="Conversations and their messages.")
def conversation() -> None:
    """Conversations and their messages. A conversation is named by its id or its key."""


@conversation.command("create")
@click.option("--key", help="A name of yours; with one in use, that conversation is the answer.")
@click.option("--title")
@click.option("--room", "room_id", metavar="ID", help="The room that it is held in.")
@click.option("--meta", multiple=True, metavar="KEY=VALUE", help="Metadata; may be repeated.")
def create(key: str | None, title: str | None, room_id: str | None, meta: tuple[str, ...]) -> None:
    """Begin a conversation."""
    with opened(create=True) as storage:
        made = storage.conversations.create(
            key=key, title=title, room_id=room_id, metadata=pairs_of("meta", meta)
        )
    output.one(made, COLUMNS)


@conversation.command("list")
@click.option("--status", type=click.Choice(["open", "closed"]))
@click.option(
    "--by",
    type=click.Choice(["created", "updated"]),
    default="updated",
    show_default=True,
    help="Newest first by creation or by last change.",
)
@paged
def list_conversations(
    status: str | None, by: str, limit: int, cursor: str | None, everything: bool
) -> None:
    """List conversations, newest first."""
    with opened() as storage:
        output.pages(
            lambda n, after: storage.conversations.list(
                status=cast("Any", status), order=cast("Any", f"{by}_at"), limit=n, cursor=after
            ),
            COLUMNS,
            limit=limit,
            cursor=cursor,
            everything=everything,
        )


@conversation.command("show")
@click.argument("conversation")
def show(conversation: str) -> None:
    """Show one CONVERSATION, without its messages."""
    with opened() as storage:
        output.one(found(storage, conversation), DETAILS)


@conversation.command("append")
@click.argument("conversation")
@click.argument("text")
@click.option("--role", type=ROLES, default="user", show_default=True)
@click.option("--sender", "sender_id", metavar="ID", help="Who says it.")
@click.option("--recipient", "recipient_id", metavar="ID", help="To whom.")
@click.option("--external-id", metavar="ID", help="A name of yours; a repeat is stored once.")
@click.option("--expected-head", type=int, metavar="N", help="Only if so many came before it.")
@click.option("--meta", multiple=True, metavar="KEY=VALUE", help="Metadata; may be repeated.")
def append(conversation: str, text: str, meta: tuple[str, ...], **fields: Any) -> None:
    """Add a message to CONVERSATION; "-" reads the TEXT from standard input."""
    said = text_of("text", text)
    with opened() as storage:
        message = storage.conversations.append(
            found(storage, conversation).id,
            said,
            metadata=pairs_of("meta", meta),
            **given(**fields),
        )
        [answer] = _named(storage, [message])
    output.one(answer, MESSAGES)


@conversation.command("messages")
@click.argument("conversation")
@click.option("--backward", is_flag=True, help="Begin with the last.")
@click.option("--from", "start", type=INSTANT, help="Not before this instant.")
@click.option("--to", "end", type=INSTANT, help="Not after this instant.")
@paged
def messages(
    conversation: str,
    backward: bool,
    start: datetime | None,
    end: datetime | None,
    limit: int,
    cursor: str | None,
    everything: bool,
) -> None:
    """List what was said in CONVERSATION, in order."""
    if backward and (start or end):
        raise click.UsageError("--backward goes without --from and --to.")
    with opened() as storage:
        held, reading = found(storage, conversation).id, storage.conversations.messages

        def page(n: int, after: str | None) -> Any:
            if start or end:
                found = reading.between(held, start, end, limit=n, cursor=after)
            else:
                direction: Any = "backward" if backward else "forward"
                found = reading.page(held, direction=direction, limit=n, cursor=after)
            return Page(_named(storage, found.items), found.next_cursor)

        output.pages(page, MESSAGES, limit=limit, cursor=cursor, everything=everything)


@conversation.command("search")
@click.argument("query")
@click.option("-k", "k", default=10, show_default=True, help="How many, up to 1000.")
@click.option("--in", "conversation", metavar="CONVERSATION", help="Only in this one.")
@click.option("--role", type=ROLES)
@click.option("--from", "start", type=INSTANT, help="Not before this instant.")
@click.option("--to", "end", type=INSTANT, help="Not after this instant.")
@click.option("--sender", "sender_id", metavar="ID", help="Said by this participant.")
@click.option(
    "--mode",
    type=click.Choice(["hybrid", "vector", "keyword"]),
    default="hybrid",
    show_default=True,
    help="Words and meaning, or one of them.",
)
def search(query: str, k: int, conversation: str | None, **fields: Any) -> None:
    """Find messages by words and meaning, best first.

    By meaning those are found that "conversation embed" has reached.
    """
    with opened() as storage:
        held = None if conversation is None else found(storage, conversation).id
        hits = storage.conversations.search(query, k=k, conversation_id=held, **given(**fields))
        said = _named(storage, [hit.message for hit in hits])
    columns = ("?id", "score", "legs", "?conversation_id", "sequence", "sender", "text")
    answers = [
        {**message, "score": round(hit.score, 3), "legs": "+".join(hit.legs) or "neighbour"}
        for hit, message in zip(hits, said, strict=True)
    ]
    output.rows(answers, columns)
    if "not_embedded" in hits.flags:
        output.note("Some messages have no vector yet: holdfast conversation embed.")


@conversation.command("embed")
@click.option("--limit", default=1000, show_default=True, help="How many at most.")
def embed(limit: int) -> None:
    """Make vectors for messages that have none, so that they are found by meaning."""
    with opened() as storage:
        embeddings, done = storage.conversations.embeddings, 0
        while done < limit and (made := embeddings.run(limit=min(100, limit - done))):
            done += made
        stats = embeddings.stats()
    output.one({"made": done, **msgspec.structs.asdict(stats)}, EMBEDDED)


@conversation.command("update")
@click.argument("conversation")
@click.option("--title")
@click.option("--summary")
@click.option("--status", type=click.Choice(["open", "closed"]))
def update(conversation: str, **fields: Any) -> None:
    """Change title, summary or status of CONVERSATION."""
    changes = given(**fields)
    if not changes:
        raise click.UsageError("Give at least one of --title, --summary, --status.")
    with opened() as storage:
        held = found(storage, conversation).id
        output.one(storage.conversations.update(held, **changes), DETAILS)


@conversation.command("delete")
@click.argument("conversation")
@destroys
def delete(conversation: str, yes: bool, dry_run: bool) -> None:
    """Remove CONVERSATION with everything in it."""
    with opened() as storage:
        held = found(storage, conversation)
        what = f"delete the conversation {held.id} and its {held.message_count} messages"
        if confirm(what, yes=yes, dry_run=dry_run):
            storage.conversations.delete(held.id)


def found(storage: Storage, name: str) -> Conversation:
    """The conversation with this id or, in the bound scope, this key."""
    held = storage.conversations.get(name) or storage.conversations.get_by_key(name)
    if held is None:
        raise NotFound("There is no such conversation.", hint="See: holdfast conversation list.")
    return held


def _named(storage: Storage, messages: Sequence[Message]) -> list[dict[str, Any]]:
    """The messages with the name of who sent each, or the id where there is no name."""
    answers = []
    for spoken in storage.conversations.messages.named(messages):
        sender = None if spoken.sender is None else spoken.sender.name or spoken.sender.id
        told: dict[str, Any] = output.plain(spoken.message)
        answers.append({**told, "sender": sender})
    return answers
