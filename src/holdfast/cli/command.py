"""What all commands share: the options of every command, and opening the store they name."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, cast

import click

from holdfast.cli.errors import PipeClosed, guarded, json_asked
from holdfast.cli.streams import escape_what_is_lacking
from holdfast.core.errors import NotFound
from holdfast.open import file_of
from holdfast.storage import Storage

_SETTINGS: Final = "holdfast.settings"
DEFAULT_STORE: Final = "agent.db"
EMBEDDERS: Final = ("hash", "minilm", "minilm32", "static", "none")


@dataclass
class Settings:
    """Which store, as whom, and in which form the answer comes."""

    store: str = DEFAULT_STORE
    tenant: str = "default"
    agent: str | None = None
    user: str | None = None
    namespace: str | None = None
    embedder: str = "hash"
    form: str = ""
    """"json", "jsonl", "ids", or "" for a table on a terminal and plain lines elsewhere."""

    @property
    def path(self) -> str | None:
        """The file that the store is in; None for a store that is no file."""
        return file_of(self.store)


def settings() -> Settings:
    """The settings of the running command."""
    meta = click.get_current_context().meta
    return cast("Settings", meta.setdefault(_SETTINGS, Settings()))


def _note(name: str, const: object = None) -> Callable[[click.Context, click.Parameter, Any], None]:
    def callback(context: click.Context, _: click.Parameter, value: Any) -> None:
        if value is None or value is False:
            return
        held = context.meta.setdefault(_SETTINGS, Settings())
        setattr(held, name, value if const is None else const)

    return callback


def shared_options(*, root: bool) -> list[click.Parameter]:
    """The options of every command; only the root's read the environment, so that others win."""

    def option(name: str, metavar: str, text: str, kind: Any = None) -> click.Option:
        return click.Option(
            [f"--{name}"],
            metavar=metavar,
            help=text,
            type=kind,
            envvar=f"HOLDFAST_{name.upper()}" if root else None,
            expose_value=False,
            callback=_note(name),
        )

    def flag(name: str, form: str, text: str) -> click.Option:
        names = [f"--{name}", "-q"] if name == "quiet" else [f"--{name}"]
        return click.Option(
            names, is_flag=True, help=text, expose_value=False, callback=_note("form", form)
        )

    return [
        option("store", "PATH|URL", f"The store. Default: ./{DEFAULT_STORE}"),
        option("tenant", "NAME", "Whose data. Default: default"),
        option("agent", "NAME", "Bind to one agent."),
        option("user", "NAME", "Bind to one user."),
        option("namespace", "NAME", "Bind to one namespace."),
        option("embedder", "|".join(EMBEDDERS), "What makes vectors.", click.Choice(EMBEDDERS)),
        flag("json", "json", "Answer with one JSON document."),
        flag("jsonl", "jsonl", "Answer with one JSON object per line."),
        flag("quiet", "ids", "Answer with ids alone, one per line."),
    ]


class Leaf(click.Command):
    """A command that does something; it takes the shared options too."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        own = {name for parameter in self.params for name in parameter.opts}
        self.shared = [p for p in shared_options(root=False) if not own & set(p.opts)]
        self.params = [*self.params, *self.shared]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the command's own options first, and the shared ones by themselves."""
        hidden = set(self.shared)
        options = [p for p in self.get_params(ctx) if isinstance(p, click.Option)]
        own = [p.get_help_record(ctx) for p in options if p not in hidden]
        shared = [p.get_help_record(ctx) for p in self.shared]
        for title, rows in (("Options", own), ("Options of every command", shared)):
            listed = [row for row in rows if row is not None]
            if listed:
                with formatter.section(title):
                    formatter.write_dl(listed)


class Noun(click.Group):
    """A group of commands about one kind of thing."""

    command_class = Leaf
    group_class = type


class Root(Noun):
    """The command line as a whole."""

    def main(self, args: Sequence[str] | None = None, *rest: Any, **kwargs: Any) -> Any:
        """Run and exit: 0 ok, 1 error, 2 usage, 3 not found, 4 conflict, 5 unavailable."""
        escape_what_is_lacking()
        kwargs["standalone_mode"] = False
        kwargs.setdefault("prog_name", "holdfast")
        given = sys.argv[1:] if args is None else list(args)
        run = super().main
        sys.exit(guarded(lambda: run(given, *rest, **kwargs), as_json=json_asked(given)))

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that was named."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            raise PipeClosed from error


def check_there(path: str | None) -> None:
    """NotFound where the file of a store is missing or has no byte: opening would make a store."""
    if path is None:
        return
    if not os.path.exists(path):
        raise NotFound(
            f"There is no store at {path}.",
            hint="Name one with --store, or make it by writing: holdfast remember TEXT.",
        )
    if is_empty(path):
        raise NotFound(
            f"The file at {path} is empty; there is no store in it.",
            hint="If one was in it, restore a backup: holdfast restore BACKUP NEW-PATH.",
        )


def is_empty(path: str) -> bool:
    """Whether a file has no byte; Corrupt where a log lies beside it."""
    from holdfast.backends.sqlite import header

    return os.path.getsize(path) == 0 and header.is_empty(path)


@contextmanager
def opened(*, create: bool = False) -> Iterator[Storage]:
    """The store of the running command. NotFound for a missing file, unless it may ``create``."""
    from holdfast.open import open as open_store

    held = settings()
    if not create:
        check_there(held.path)
    with open_store(
        held.store,
        tenant=held.tenant,
        agent=held.agent,
        user=held.user,
        namespace=held.namespace,
        embedder=embedder_named(held.embedder),
    ) as storage:
        yield storage


def embedder_named(name: str) -> Any:
    """The embedder that an option names, as ``holdfast.open`` takes it."""
    return None if name == "none" else name


Command = Callable[..., Any]


def paged(command: Command) -> Command:
    """Add --limit, --cursor and --all."""
    command = click.option(
        "--all", "everything", is_flag=True, help="Every page, however many there are."
    )(command)
    command = click.option("--cursor", help="Go on where the last page ended.")(command)
    return click.option(
        "--limit", default=50, show_default=True, help="Most rows of a page, 1 to 1000."
    )(command)
