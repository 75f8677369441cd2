"""`holdfast demo`: a whole play is read, asked about, changed, and survives a crash."""

from __future__ import annotations

import os
import tempfile

import click
from click.core import ParameterSource

from holdfast.cli import output
from holdfast.cli.command import Leaf, settings
from holdfast.core.errors import Conflict, Invalid


@click.command(cls=Leaf, short_help="See it work on a whole play.")
def demo() -> int:
    """See it work on a whole play: recall, history, forgetting, and a crash.

    Keeps the store at --store if that is given, else in a new temporary folder that it names. It
    needs no key, no service and no network.
    """
    from holdfast.cli.demo.story import Story

    story = Story(_place(), settings().embedder)
    if settings().form in ("json", "jsonl"):
        for _ in story.told():
            pass
        output.emit(story.as_json())
        return 0 if story.ok else 1
    for text in story.told(lambda heading: click.style(heading, bold=True)):
        click.echo(text)
    return 0 if story.ok else 1


def _place() -> str:
    """Where the store is to be: a new path, which is never written over.

    What the environment names is somebody's real store, and is left alone.
    """
    context = click.get_current_context()
    sources = {at.get_parameter_source("store") for at in (context, context.find_root())}
    if ParameterSource.COMMANDLINE not in sources:
        return os.path.join(tempfile.mkdtemp(prefix="holdfast-demo-"), "demo.db")
    path = settings().path
    if path is None:
        raise Invalid("store", expected="a path: the demo needs a file to crash on", got="a URL")
    if os.path.exists(path):
        raise Conflict(f"There is a file at {path}.", hint="Choose a new path for the demo.")
    return path
