"""`holdfast knowledge`: documents, and what in them answers a query."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from holdfast.cli import output
from holdfast.cli.command import Noun, opened, paged, settings
from holdfast.cli.consent import confirm, destroys
from holdfast.cli.ingest import access_of, admitting
from holdfast.cli.progress import progress
from holdfast.cli.values import given, pairs_of, text_of
from holdfast.core.errors import NotFound
from holdfast.core.visible import visible
from holdfast.storage import Storage
from holdfast.stores.knowledge import Chunk, Findings, KnowledgeReader
from holdfast.stores.knowledge.records import IngestRun
from holdfast.stores.store import Page

LISTED = ("id", "title", "chunks", "?source", "?updated_at")
PUT = ("id", "status", "chunks", "title")
_DETAILS = (
    "id title source uri sets collection_id boost metadata access locked access_malformed by"
    " run_id characters chunks modified_at ingested_at created_at updated_at agent user namespace"
)
DETAILS = tuple(_DETAILS.split())
HITS = ("id", "score", "legs", "title", "text")
CHUNKS = ("id", "text", "?start", "?end", "?space")
RUNS = ("?id", "source", "status", "counts", "?started_at", "?finished_at", "?error")
UNREAD = ("item", "source", "error", "?seen_at")
MODES = click.Choice(["hybrid", "vector", "keyword"])
FUSIONS = click.Choice(["rrf", "convex"])

Command = Callable[..., Any]


@click.group(cls=Noun, short_help="Documents, and what in them answers a query.")
def knowledge() -> None:
    """Documents, named by their id. Folders are taken in by `holdfast ingest`.

    What is shown is what everybody may read, unless --as says who asks, or --unrestricted that
    nothing is to be kept back.
    """


def asking(command: Command) -> Command:
    """Add the options that say who asks."""
    command = click.option(
        "--unrestricted", is_flag=True, help="Keep nothing back, locked documents included."
    )(command)
    command = click.option(
        "--as-group", "groups", multiple=True, metavar="NAME", help="As a member of this group."
    )(command)
    return click.option("--as", "reader", metavar="NAME", help="As this user sees it.")(command)


def narrowing(command: Command) -> Command:
    """Add the options that narrow searches and listings."""
    command = click.option(
        "--meta", multiple=True, metavar="KEY=VALUE", help="Only with this metadata."
    )(command)
    command = click.option("--collection", metavar="TAG", help="Only in this collection.")(command)
    for name, text in (
        ("source", "Only from this source; may be repeated."),
        ("set", "Only in this set; may be repeated."),
    ):
        plural = f"{name}s"
        command = click.option(f"--{name}", plural, multiple=True, metavar="NAME", help=text)(
            command
        )
    return command


def reading(storage: Storage, fields: dict[str, Any]) -> KnowledgeReader:
    """Knowledge as whoever asks sees it."""
    reader, groups = fields.pop("reader"), fields.pop("groups")
    if fields.pop("unrestricted"):
        if reader is not None or groups:
            raise click.UsageError("--unrestricted goes with no --as.")
        return storage.knowledge.unrestricted()
    return storage.knowledge.for_access(user=reader, groups=list(groups))


def narrowed(fields: dict[str, Any]) -> dict[str, Any]:
    """The narrowing among the options, as the store takes it."""
    found = given(**{name: fields.pop(name) for name in ("sets", "sources", "collection")})
    metadata = pairs_of("meta", fields.pop("meta"))
    return {**found, "metadata": metadata} if metadata else found


@knowledge.command("add")
@click.argument("id")
@click.argument("text")
@click.option("--title", metavar="TEXT")
@click.option("--source", metavar="NAME", help="Where it comes from.")
@click.option("--uri", metavar="URI", help="Where the original is.")
@click.option("--set", "sets", multiple=True, metavar="NAME", help="May be repeated.")
@click.option("--boost", type=float, metavar="FACTOR", help="Weight of what is found in it.")
@click.option("--collection", metavar="TAG", help="Put it into this collection.")
@click.option("--by", metavar="NAME", help="Who brings it.")
@click.option("--meta", multiple=True, metavar="KEY=VALUE", help="Metadata; may be repeated.")
@admitting
def add(id: str, text: str, meta: tuple[str, ...], **fields: Any) -> None:
    """Take TEXT in as the document ID, in place of the one there is; "-" reads standard input.

    What is not given stays as it was.
    """
    content, metadata, access = text_of("content", text), pairs_of("meta", meta), access_of(fields)
    stated = {**given(**fields), **access, **({"metadata": metadata} if metadata else {})}
    with opened(create=True) as storage:
        done = storage.knowledge.put(id, content, **stated)
    told = {**output.plain(done.document), "status": done.status}
    output.one(told, PUT)


@knowledge.command("search")
@click.argument("query")
@click.option("--limit", default=10, show_default=True, help="How many chunks, up to 250.")
@click.option("--mode", type=MODES, default="hybrid", show_default=True)
@click.option("--fusion", type=FUSIONS, default="rrf", show_default=True)
@click.option("--explain", is_flag=True, help="Say what each stage added.")
@narrowing
@asking
def search(query: str, **fields: Any) -> None:
    """Find the chunks of documents that answer QUERY, best first."""
    asked, explain, narrow = text_of("query", query), fields["explain"], narrowed(fields)
    with opened() as storage:
        reader = reading(storage, fields)
        found = reader.search(asked, **fields, **narrow)
    show_findings(found, explain=explain)


@knowledge.command("list")
@narrowing
@asking
@paged
def list_documents(limit: int, cursor: str | None, everything: bool, **fields: Any) -> None:
    """List documents by id."""
    narrow = narrowed(fields)
    with opened() as storage:
        reader = reading(storage, fields)
        output.pages(
            lambda n, after: reader.list(limit=n, cursor=after, **narrow),
            LISTED,
            limit=limit,
            cursor=cursor,
            everything=everything,
        )


@knowledge.command("counts")
@narrowing
@asking
def counts(**fields: Any) -> None:
    """Count documents, chunks, and chunks whose vector is missing."""
    narrow = narrowed(fields)
    with opened() as storage:
        figures = output.plain(reading(storage, fields).counts(**narrow))
        if not any(narrow.values()):
            figures["vectors"] = output.plain(storage.knowledge.vectors.stats())
    output.one(figures, ("documents", "chunks", "vectors"))


@knowledge.command("show")
@click.argument("id")
@asking
def show(id: str, **fields: Any) -> None:
    """Show what is known of the document ID."""
    with opened() as storage:
        held = reading(storage, fields).get(id)
    if held is None:
        raise _missing()
    told = {"access": output.plain(held.access), "locked": held.locked}
    output.one({**output.plain(held), **told}, DETAILS)


@knowledge.command("text")
@click.argument("id")
@asking
def text(id: str, **fields: Any) -> None:
    """Print the content of the document ID, as it was taken in."""
    with opened() as storage:
        content = reading(storage, fields).text(id)
    if settings().form in ("json", "jsonl"):
        output.emit({"id": id, "text": content})
    else:
        click.echo(visible(content, lines=True) if output.on_terminal() else content)


@knowledge.command("chunks")
@click.argument("id")
@asking
@paged
def chunks(id: str, limit: int, cursor: str | None, everything: bool, **fields: Any) -> None:
    """List the chunks of the document ID, in order."""
    with opened() as storage:
        reader = reading(storage, fields)
        output.pages(
            lambda n, after: _named(reader.chunks(id, limit=n, cursor=after)),
            CHUNKS,
            limit=limit,
            cursor=cursor,
            everything=everything,
        )


@knowledge.command("access")
@click.argument("id")
@admitting
def access(id: str, **fields: Any) -> None:
    """Say anew whom the document ID admits."""
    stated = access_of(fields)
    if not stated:
        raise click.UsageError("Say whom: --reader, --reader-group, --public or --lock.")
    with opened() as storage:
        held = storage.knowledge.set_access(id, stated["access"])
    told = {"access": output.plain(held.access), "locked": held.locked}
    output.one({**output.plain(held), **told}, ("id", "access", "locked"))


@knowledge.command("delete")
@click.argument("id", required=False)
@click.option("--source", metavar="NAME", help="All documents of this source instead.")
@destroys
def delete(id: str | None, source: str | None, yes: bool, dry_run: bool) -> None:
    """Remove the document ID, or all of a source, with chunks and vectors."""
    if (id is None) == (source is None):
        raise click.UsageError("Name a document, or a --source.")
    with opened() as storage:
        store = storage.knowledge
        what = f"delete the document {id}" if id else f"delete all documents of {source}"
        if not confirm(what, yes=yes, dry_run=dry_run):
            return
        gone = store.delete(id) if id is not None else store.delete_source(source or "")
    if not gone.documents:
        raise _missing()
    output.one(gone, ("documents", "chunks"))


@knowledge.command("repair")
@click.option("--limit", default=1_000, show_default=True, help="Most chunks to embed.")
@click.option("--vectorless", is_flag=True, help="Also those that never were to have a vector.")
def repair(limit: int, vectorless: bool) -> None:
    """Make the vectors that are missing, of chunks whose embedding failed."""
    with opened() as storage:
        vectors, done = storage.knowledge.vectors, 0
        if vectorless:
            vectors.rearm(vectorless=True)
        while done < limit:
            made = vectors.repair(limit=min(100, limit - done))
            if not made:
                break
            done += made
    output.one({"repaired": done}, ("repaired",))


@knowledge.command("reembed")
@click.option("--batch", default=100, show_default=True, help="Texts of one call of the model.")
def reembed(batch: int) -> None:
    """Move all knowledge to the model that --embedder names, or go on where a move stopped.

    Searches go on in the old vectors until all new ones are there.
    """
    with opened() as storage, progress("reembed", None, "texts") as advance:
        vectors = storage.knowledge.vectors
        done = vectors.reembed(batch=batch, on_progress=lambda move: advance(move.done))
    output.one(done, ("space", "embedded", "due", "waiting", "parked", "absent"))


@knowledge.command("runs")
@click.option("--source", metavar="NAME", help="Only of this source.")
@paged
def runs(source: str | None, limit: int, cursor: str | None, everything: bool) -> None:
    """List passages over sources, oldest first."""
    with opened() as storage:
        output.pages(
            lambda n, after: storage.knowledge.runs.list(source=source, limit=n, cursor=after),
            RUNS,
            limit=limit,
            cursor=cursor,
            everything=everything,
            row=_run_told,
        )


@knowledge.command("unread")
@click.option("--source", metavar="NAME", help="Only of this source.")
@paged
def unread(source: str | None, limit: int, cursor: str | None, everything: bool) -> None:
    """List what could not be read when it was last seen, with the reason."""
    with opened() as storage:
        ledger = storage.knowledge.ledger
        output.pages(
            lambda n, after: ledger.list(source=source, failed=True, limit=n, cursor=after),
            UNREAD,
            limit=limit,
            cursor=cursor,
            everything=everything,
        )


def show_findings(found: Findings[Any], *, explain: bool) -> None:
    """Answer with what was found."""
    if settings().form == "json":
        items = [_hit(each, whole=True) for each in found]
        output.emit({"items": items, "flags": found.flags, "stages": found.stages})
    elif settings().form == "" and output.on_terminal():
        if not found:
            click.echo(found.nothing, err=True)
            return
        click.echo(found.text(output.width()))
        if explain:
            click.echo("\nwhy")
            for number, each in enumerate(found, 1):
                told = ", ".join(f"{name} {value:.4f}" for name, value in each.parts.items())
                click.echo(f"{number:>3} {told}")
            for name, value in found.stages.items():
                click.echo(f"  {name}: {visible(output.json_text(value))}")
    else:
        whole = settings().form == "jsonl"
        output.rows([_hit(each, whole=whole) for each in found], HITS)


def _hit(found: Any, *, whole: bool) -> dict[str, Any]:
    if whole:
        item = {"id": found.item.id, **output.plain(found.item)}
        return {**output.plain(found), "item": item}
    return {
        "id": found.item.id,
        "score": f"{found.score:.4f}",
        "legs": "+".join(found.legs),
        "title": found.item.title,
        "text": found.item.text,
    }


def _run_told(run: IngestRun) -> dict[str, Any]:
    """A run with its counts in words, but for those of nothing."""
    counts = ", ".join(f"{name} {count}" for name, count in run.counts.items() if count)
    return {**output.plain(run), "counts": counts}


def _named(page: Page[Chunk]) -> Page[dict[str, Any]]:
    """Chunks with the id that names them."""
    named = [{"id": chunk.id, **output.plain(chunk)} for chunk in page]
    return Page(named, page.next_cursor)


def _missing() -> NotFound:
    return NotFound("There is no such document.", hint="See: holdfast knowledge list.")
