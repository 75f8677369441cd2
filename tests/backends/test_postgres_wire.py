"""One batch on one connection: what is answered early, and what is left after a failure."""

from collections.abc import Iterator

import pytest

from holdfast.backends.postgres import wire as wires
from holdfast.backends.postgres.binding import MARK
from holdfast.backends.postgres.options import parse
from holdfast.backends.postgres.wire import StatementFailed, Wire
from holdfast.testing.servers.shared import shared_url

DIVIDED = f"SELECT 1 / {MARK}::int"


@pytest.fixture(params=[True, False], ids=["prepared", "unprepared"])
def wire(request: pytest.FixtureRequest) -> Iterator[Wire]:
    conninfo = parse(shared_url(), None).conninfo
    opened = Wire(conninfo, prepare=request.param, answer_seconds=None)
    yield opened
    opened.close()


def is_usable(wire: Wire) -> bool:
    return wire.rows(wire.run([(DIVIDED, [1])])[0]) == [(1,)]


def test_an_answer_comes_while_more_is_sent(wire: Wire) -> None:
    with wire.batch() as batch:
        batch.send([("BEGIN", ())], answers=False)
        batch.send([("SELECT 1", ()), ("SELECT 2", ())])
        batch.flush()
        first = wire.rows(batch.take())
        batch.send([(f"SELECT {MARK}::int", [first[0][0] + 2])])
        batch.send([("COMMIT", ())], answers=False)
        batch.sync()
        assert first == [(1,)]
        assert wire.rows(batch.take()) == [(2,)]
        assert [wire.rows(result) for result in batch.end()] == [[(3,)]]
    assert not wire.is_in_transaction()
    assert is_usable(wire)


@pytest.mark.parametrize("synced", [False, True])
def test_a_statement_that_fails_says_which_and_leaves_the_connection(
    wire: Wire, *, synced: bool
) -> None:
    with wire.batch() as batch:
        batch.send([("SELECT 1", ())])
        batch.send([(DIVIDED, [0]), ("SELECT 3", ())])
        if synced:
            batch.sync()
        else:
            batch.flush()
        assert wire.rows(batch.take()) == [(1,)]
        with pytest.raises(StatementFailed) as failed:
            batch.take()
    assert failed.value.at == 1
    assert failed.value.sqlstate == "22012"
    assert is_usable(wire)


def test_a_block_that_fails_leaves_the_connection_without_what_it_had_sent(wire: Wire) -> None:
    def fail() -> None:
        with wire.batch() as batch:
            batch.send([("BEGIN", ()), ("CREATE TABLE left_behind (id int)", ())])
            batch.flush()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert wire.is_in_transaction()
    wire.run([("ROLLBACK", ())])
    assert wire.rows(wire.run([("SELECT to_regclass('left_behind')::text", ())])[0]) == [(None,)]


def test_an_interrupt_does_not_wait_for_the_server(wire: Wire) -> None:
    def interrupt() -> None:
        with wire.batch() as batch:
            batch.send([("SELECT 1", ())])
            batch.flush()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupt()
    assert wire.broken


def test_when_there_are_too_many_prepared_statements_they_begin_anew(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wires, "PREPARED_LIMIT", 3)
    for number in range(8):
        results = wire.run([(f"SELECT {number}", ()), (DIVIDED, [1])])
        assert [wire.rows(result) for result in results] == [[(number,)], [(1,)]]
        assert len(wire.prepared) <= 5
