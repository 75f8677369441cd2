"""The suite also catches what is broken above the engines: stores and followers."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from holdfast.journal import mirror
from holdfast.testing.memory import MemoryHarness
from holdfast.testing.stage import Stage
from holdfast.testing.suite import mirror as mirror_cases

Broken = tuple[Any, str, Any]
"""An owner, the name of what it has, and what takes its place."""


def _for_everybody(path: str, flags: int) -> int:
    descriptor = os.open(path, flags, 0o644)
    os.fchmod(descriptor, 0o644)
    return descriptor


SABOTEURS: dict[str, tuple[Callable[..., None], Broken]] = {
    "transcript for everybody": (
        mirror_cases.TestMirror().test_c23_a_new_file_is_for_its_owner_alone_and_another_keeps_its_mode,
        (mirror, "_owned", _for_everybody),
    ),
}


@pytest.mark.parametrize("name", SABOTEURS)
def test_the_case_fails_on_the_saboteur_and_passes_without(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case, broken = SABOTEURS[name]
    wants_path = "path" in case.__code__.co_varnames
    given = {"path": tmp_path / "sound.jsonl"} if wants_path else {}
    Stage(MemoryHarness()).play(case, **given)
    monkeypatch.setattr(*broken)
    given = {"path": tmp_path / "broken.jsonl"} if wants_path else {}
    with pytest.raises((Exception, pytest.fail.Exception)):
        Stage(MemoryHarness()).play(case, **given)
