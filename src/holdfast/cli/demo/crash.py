"""A writer that is killed while it writes, and what is found afterwards.

The writer is another process. It says on its standard output what it has been told is stored, and
only then; its parent kills it without warning and compares.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass

from holdfast.open import open as open_store
from holdfast.storage import Storage

KEY = "crash"
ENOUGH = 150
"""Acknowledgements after which the writer is killed."""


@dataclass(frozen=True)
class Crash:
    """What the writer had acknowledged, and what the store holds now."""

    acknowledged: int
    stored: int
    lost: int
    exit_status: int
    integrity: bool

    @property
    def ok(self) -> bool:
        """Whether the writer wrote, was killed, and nothing that it acknowledged is missing."""
        return self.acknowledged >= ENOUGH and not self.lost and self.integrity


def crash(storage: Storage, path: str) -> Crash:
    """Start a writer, kill it in the middle of its work, and compare."""
    conversation = storage.conversations.create(key=KEY, title="A writer that is killed").id
    command = [sys.executable, "-m", __name__, path, storage.scope.tenant, conversation]
    acknowledged: list[str] = []
    # A session of its own: Ctrl-C is for the demo, which then ends its writer.
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as writer:
        assert writer.stdout is not None
        try:
            for line in writer.stdout:
                acknowledged.append(line)
                if len(acknowledged) == ENOUGH:
                    writer.kill()
        finally:
            writer.kill()
    said = whole(acknowledged)
    stored = [m.text for m in storage.conversations.messages.recent(conversation, 0)]
    return Crash(
        acknowledged=len(said),
        stored=len(stored),
        lost=len(lost(said, stored)),
        exit_status=writer.returncode,
        integrity=sound(path),
    )


def whole(lines: Iterable[str]) -> list[str]:
    """The acknowledgements that arrived whole; the last may have been cut by the kill."""
    return [line.rstrip("\n") for line in lines if line.endswith("\n")]


def lost(acknowledged: Iterable[str], stored: Iterable[str]) -> set[str]:
    """What was acknowledged and is not stored."""
    return set(acknowledged) - set(stored)


def sound(path: str) -> bool:
    """Whether every page and every record of the file is whole."""
    from holdfast.cli.doctor import integrity

    return integrity(path).ok


def write(path: str, tenant: str, conversation_id: str) -> None:
    """Append without end; say so after each append has returned."""
    with open_store(path, tenant=tenant, embedder=None) as storage:
        for number in range(1_000_000):
            text = f"line {number}"
            storage.conversations.append(conversation_id, text, role="system")
            sys.stdout.write(f"{text}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    write(*sys.argv[1:4])
