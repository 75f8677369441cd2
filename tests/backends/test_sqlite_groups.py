"""Units of a shared commit, with the part that takes failed ones back broken on purpose."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from holdfast.backends.sqlite import writer
from holdfast.testing.sqlite import SqliteHarness
from holdfast.testing.stage import Stage
from holdfast.testing.suite.driver_shared import TestDriverGroups as Groups

CAUGHT = (Exception, pytest.fail.Exception)

FAIL_ONE_BY_ONE = Groups.test_b38_applies_in_a_group_fail_one_by_one
AS_STORED = Groups.test_b38_what_a_group_answered_is_what_it_stored_whoever_failed_between


class _Forgets(writer._Units):
    """Takes everything back, and repeats none of the units before the failed one."""

    def _repeat(self, done: list[Any]) -> None:
        super()._repeat([])


class _ForgetsTheFirst(writer._Units):
    """Repeats all but the first."""

    def _repeat(self, done: list[Any]) -> None:
        super()._repeat(done[1:])


class _Doubles(writer._Units):
    """Repeats the units, but takes nothing back first."""

    def _repeat(self, done: list[Any]) -> None:
        self._done = None
        for work in done:
            work(self._connection)


class _KeepsTheFailed(writer._Units):
    """Leaves in place what a failed unit wrote."""

    def _repeat(self, done: list[Any]) -> None:
        self._done = None


class _RepeatsTheFailed(writer._Units):
    """Counts what failed among the units that it repeats."""

    def run(self, turn: Any) -> None:
        if self._done is not None and turn.repeatable:
            self._done.append(turn.work)
        super().run(turn)


class _KeepsTheFirst(writer._Units):
    """Leaves in place what the first unit wrote before it failed."""

    def _run_first(self, turn: Any) -> None:
        try:
            turn.result = turn.work(self._connection)
        except Exception as error:  # noqa: BLE001
            turn.error = error
        self._connection.execute("SAVEPOINT units")
        self._untouched = False


class _TooNarrow(writer._Units):
    """After a failure, a unit that fails next is not taken back."""

    def _run_in_savepoint(self, turn: Any) -> None:
        try:
            turn.result = turn.work(self._connection)
        except Exception as error:  # noqa: BLE001
            turn.error = error


@pytest.mark.parametrize(
    ("broken", "case"),
    [
        (_Forgets, FAIL_ONE_BY_ONE),
        (_ForgetsTheFirst, AS_STORED),
        (_Doubles, FAIL_ONE_BY_ONE),
        (_KeepsTheFailed, FAIL_ONE_BY_ONE),
        (_RepeatsTheFailed, FAIL_ONE_BY_ONE),
        (_KeepsTheFirst, FAIL_ONE_BY_ONE),
        (_TooNarrow, AS_STORED),
    ],
)
def test_saboteurs_of_shared_commits_are_caught(
    broken: type, case: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound, spoiled = tmp_path / "sound", tmp_path / "spoiled"
    sound.mkdir()
    spoiled.mkdir()
    Stage(SqliteHarness(sound)).play(_bound(case))
    monkeypatch.setattr(writer, "_Units", broken)
    with pytest.raises(CAUGHT):
        Stage(SqliteHarness(spoiled)).play(_bound(case))


def _bound(case: Callable[..., Any]) -> Callable[..., Any]:
    bound: Callable[..., Any] = getattr(Groups(), case.__name__)
    return bound
