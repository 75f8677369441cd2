"""The command line. It speaks to stores only; nothing imports it."""

from __future__ import annotations

import click

from holdfast import __version__
from holdfast.cli.audit import audit
from holdfast.cli.checkpoint import checkpoint
from holdfast.cli.command import Root, shared_options
from holdfast.cli.completion import completion
from holdfast.cli.conversation import conversation
from holdfast.cli.demo import demo
from holdfast.cli.doctor import doctor
from holdfast.cli.ingest import ingest
from holdfast.cli.knowledge import knowledge
from holdfast.cli.kv import kv
from holdfast.cli.maintain import maintain
from holdfast.cli.memory import memory
from holdfast.cli.recall import recall, remember
from holdfast.cli.setup import setup
from holdfast.cli.task import task
from holdfast.cli.transfer import export_store, import_store
from holdfast.cli.upkeep import backup, restore

__all__ = ["main"]

EPILOG = """\b
Environment: HOLDFAST_STORE, HOLDFAST_TENANT, HOLDFAST_AGENT, HOLDFAST_USER,
HOLDFAST_NAMESPACE and HOLDFAST_EMBEDDER stand for the options of these names.

\b
Exit status: 0 ok, 1 error, 2 usage, 3 not found, 4 conflict, 5 unavailable.
"""


@click.group(
    cls=Root,
    name="holdfast",
    params=shared_options(root=True),
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="holdfast")
def main() -> None:
    """Keep what an agent must not lose: memories, conversations, tasks, an audit log.

    Answers are tables on a terminal and tab-separated lines in a pipe; --json and --jsonl work
    with every command, before or after its name.
    """


COMMANDS = (
    audit,
    backup,
    checkpoint,
    completion,
    conversation,
    demo,
    doctor,
    export_store,
    import_store,
    ingest,
    knowledge,
    kv,
    maintain,
    memory,
    recall,
    remember,
    restore,
    setup,
    task,
)
for command in COMMANDS:
    main.add_command(command)
