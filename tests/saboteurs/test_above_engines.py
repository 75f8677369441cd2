"""The suite also catches what is broken above the engines: stores and followers."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any

import msgspec
import pytest

from holdfast.backends import memory as memory_engine
from holdfast.core.filter import Record
from holdfast.core.scope import SCOPE_FIELDS
from holdfast.journal import mirror
from holdfast.stores.memory import records, transfer
from holdfast.stores.memory.found import Found
from holdfast.stores.memory.records import archived_row
from holdfast.testing.memory import MemoryHarness
from holdfast.testing.stage import Stage
from holdfast.testing.suite import memory_moving as moving
from holdfast.testing.suite import memory_recall as recalls
from holdfast.testing.suite import mirror as transcripts

Broken = tuple[Any, str, Any]
"""An owner, the name of what it has, and what takes its place."""


def _for_everybody(path: str, flags: int) -> int:
    descriptor = os.open(path, flags, 0o644)
    os.fchmod(descriptor, 0o644)
    return descriptor


def _whosever(body: bytes, row: Record) -> Record:
    held = msgspec.msgpack.decode(zlib.decompress(body))
    return archived_row(body, {**row, **{name: held[name] for name in ("id", *SCOPE_FIELDS)}})


def _last_of_a_turn(found: Any, ids: Any, sessions: Any, turns: Any) -> None:
    found._turns.update(zip(zip(sessions, turns, strict=True), ids, strict=True))


def _import(**arguments: Any) -> Callable[..., None]:
    cases = moving.TestMemoryTransfer()
    return partial(
        cases.test_f35_a_record_that_no_store_could_build_is_refused_by_line_and_field, **arguments
    )


SABOTEURS: dict[str, tuple[Callable[..., None], Broken]] = {
    "transcript for everybody": (
        transcripts.TestMirror().test_c23_a_new_file_is_for_its_owner_alone_and_another_keeps_its_mode,
        (mirror, "owned", _for_everybody),
    ),
    "import of what no store can build": (
        _import(kind="memories", change={"metadata": 5}, named="metadata"),
        (transfer, "_check_meaning", lambda *_: None),
    ),
    "archived body of another memory": (
        _import(kind="memory_archive", change={"id": "of-another"}, named="body"),
        (records, "archived_row", _whosever),
    ),
    "integrity that unpacks no archive": (
        partial(
            moving.TestMemoryTransfer().test_c24_an_archived_memory_that_cannot_be_read_is_corrupt,
            body=b"no archive",
        ),
        (records, "archived_row", lambda *_: {}),
    ),
    "neighbours in the order of the hits": (
        recalls.TestMemoryRecall().test_of_several_memories_of_one_turn_the_least_id_is_the_neighbour,
        (Found, "_add_turns", _last_of_a_turn),
    ),
    "integrity that trusts the kinds of fields": (
        moving.TestMemoryTransfer().test_c24_what_no_store_can_build_is_found_and_named_by_its_id,
        (memory_engine, "finding", lambda *_: None),
    ),
}


@pytest.mark.parametrize("name", SABOTEURS)
def test_the_case_fails_on_the_saboteur_and_passes_without(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case, broken = SABOTEURS[name]
    wants_path = "path" in signature(case).parameters
    given = {"path": tmp_path / "sound.jsonl"} if wants_path else {}
    Stage(MemoryHarness()).play(case, **given)
    monkeypatch.setattr(*broken)
    given = {"path": tmp_path / "broken.jsonl"} if wants_path else {}
    with pytest.raises((Exception, pytest.fail.Exception)):
        Stage(MemoryHarness()).play(case, **given)
