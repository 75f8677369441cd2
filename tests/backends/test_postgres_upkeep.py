"""Backup, restore and maintenance of a store in PostgreSQL, by the engine and by the command."""

from __future__ import annotations

import itertools
import json
import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import holdfast
from holdfast.backends.postgres import PostgresDriver, backup
from holdfast.cli import main
from holdfast.core.errors import Conflict, Corrupt, NotFound, Unavailable, Unsupported
from holdfast.storage import Storage, all_collections
from holdfast.testing.servers.databases import APPLICATION, OWNER, Database

NUMBERS = itertools.count(1)


def run(*args: str) -> Result:
    cleared = dict.fromkeys((k for k in os.environ if k.startswith("HOLDFAST_")), None)
    done = CliRunner(env=cleared).invoke(main, list(args))
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


@pytest.fixture
def database() -> Iterator[Database]:
    made = Database()
    yield made
    made.drop()


@pytest.fixture
def target() -> Iterator[Database]:
    made = Database()
    yield made
    made.drop()


def filled(database: Database) -> str:
    """A store with something of several kinds; the owner's URL."""
    driver = PostgresDriver(database.url())
    driver.setup(all_collections())
    driver.grant(APPLICATION, "application")
    driver.close()
    for tenant in ("default", "other"):
        with holdfast.open(database.url(APPLICATION), tenant=tenant, setup=False) as storage:
            storage.memory.remember("Ada takes her tea without sugar.", speaker="Ada")
            talk = storage.conversations.create().id
            storage.conversations.append(talk, "A message.")
            storage.tasks.post("A task.")
            for number in range(20):
                storage.audit.append("thing.done", data={"number": number})
    return database.url()


def restored(target: Database) -> Storage:
    return holdfast.open(target.url(), setup=False)


def write_until(storage: Storage, stop: threading.Event, told: list[int]) -> None:
    for number in itertools.count():
        if stop.is_set():
            return
        storage.audit.append("thing.done", data={"number": number})
        told.append(number)


def test_a30_a_copy_taken_during_writes_is_whole_where_it_is_restored(
    database: Database, target: Database, tmp_path: Path
) -> None:
    url = filled(database)
    stop, told = threading.Event(), list[int]()
    with holdfast.open(database.url(APPLICATION), setup=False) as storage:
        writing = threading.Thread(target=write_until, args=(storage, stop, told))
        writing.start()
        try:
            done = run("backup", str(tmp_path / "copy"), "--store", url, "--json")
        finally:
            stop.set()
            writing.join()
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["bytes"] > 0
    made = run("restore", str(tmp_path / "copy"), target.url(), "--json")
    assert made.exit_code == 0, made.output
    rows = json.loads(made.stdout)["rows"]
    assert 40 <= rows["audit_entries"] <= 40 + len(told)
    with restored(target) as storage:
        assert storage.audit.verify().ok
        [found] = storage.memory.recall("how does Ada take her tea?")
        assert found.memory.content == "Ada takes her tea without sugar."
        report = storage._driver.maintain("integrity")
        assert (report.ok, report.findings) == (True, [])
        assert storage.scoped(tenant="other").audit.verify().ok
        storage.audit.append("thing.done")  # the chain goes on where it was


def modes_of_a_copy(database: Database, copy: Path) -> set[int]:
    driver = PostgresDriver(database.url())
    driver.setup(all_collections())
    previous = os.umask(0)
    try:
        driver.backup(str(copy))
    finally:
        os.umask(previous)
        driver.close()
    assert stat.S_IMODE(copy.stat().st_mode) == 0o700
    return {stat.S_IMODE(file.stat().st_mode) for file in copy.iterdir()}


def test_a30_a_copy_is_readable_by_its_owner_alone(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert modes_of_a_copy(database, tmp_path / "copy") == {0o600}
    # The saboteur opens files as Python does.
    monkeypatch.setattr(backup, "owned", lambda path, flags: os.open(path, flags, 0o666))
    assert modes_of_a_copy(database, tmp_path / "open") == {0o666}


def test_a30_the_application_may_use_what_was_restored_after_a_setup(
    database: Database, target: Database, tmp_path: Path
) -> None:
    url = filled(database)
    assert run("backup", str(tmp_path / "copy"), "--store", url).exit_code == 0
    assert run("restore", str(tmp_path / "copy"), target.url()).exit_code == 0
    assert run("setup", "postgres", target.url(), "--app-role", APPLICATION).exit_code == 0
    assert run("doctor", target.url(APPLICATION)).exit_code == 0
    with holdfast.open(target.url(APPLICATION), setup=False) as storage:
        assert storage.memory.recall("tea")


def harm(copy: Path, how: str) -> None:
    manifest = copy / backup.MANIFEST
    held = copy / "audit_entries"
    if how == "a flipped bit":
        content = bytearray(held.read_bytes())
        content[len(content) // 2] ^= 1
        held.write_bytes(content)
    elif how == "a short file":
        held.write_bytes(held.read_bytes()[:-1])
    elif how == "a missing file":
        held.unlink()
    elif how == "a damaged manifest":
        manifest.write_bytes(manifest.read_bytes()[:-20])
    elif how == "a wrong count":
        told = json.loads(manifest.read_text())
        for table in told["tables"]:
            table["rows"] += 1
        manifest.write_text(json.dumps(told))


@pytest.mark.parametrize(
    "how",
    ["a flipped bit", "a short file", "a missing file", "a damaged manifest", "a wrong count"],
)
def test_a30_saboteur_a_damaged_copy_is_refused_and_nothing_is_written(
    database: Database, target: Database, tmp_path: Path, how: str
) -> None:
    filled(database)
    copy = tmp_path / "copy"
    driver = PostgresDriver(database.url())
    driver.setup(all_collections())
    driver.backup(str(copy))
    driver.close()
    harm(copy, how)
    driver = PostgresDriver(target.url())
    with pytest.raises(Corrupt):
        driver.restore(str(copy), all_collections())
    driver.close()
    if how != "a wrong count":  # which only the server can tell, and takes all of it back
        [there] = target.keeper.execute("SELECT to_regnamespace('holdfast') IS NULL")
        assert there == (True,)
        return
    with restored(target) as storage:
        assert storage.audit.verify().entries == 0


def test_a30_nothing_is_restored_over_records_nor_from_nothing(
    database: Database, tmp_path: Path
) -> None:
    url = filled(database)
    copy = str(tmp_path / "copy")
    assert run("backup", copy, "--store", url).exit_code == 0
    assert run("backup", copy, "--store", url).exit_code == 4  # the copy is there
    before = database.shape()
    driver = PostgresDriver(url)
    with pytest.raises(Conflict):
        driver.restore(copy, all_collections())
    with pytest.raises(NotFound):
        driver.restore(str(tmp_path / "nowhere"), all_collections())
    driver.close()
    assert database.shape() == before
    assert run("restore", copy, url).exit_code == 4
    assert run("restore", copy, url, "--dry-run").exit_code == 0


def test_a30_a_copy_of_another_edition_is_refused(
    database: Database, target: Database, tmp_path: Path
) -> None:
    filled(database)
    copy = tmp_path / "copy"
    driver = PostgresDriver(database.url())
    driver.setup(all_collections())
    driver.backup(str(copy))
    driver.close()
    manifest = copy / backup.MANIFEST
    told = json.loads(manifest.read_text())
    told["editions"]["memories"] += 1
    manifest.write_text(json.dumps(told))
    driver = PostgresDriver(target.url())
    with pytest.raises(Unsupported, match="edition"):
        driver.restore(str(copy), all_collections())
    driver.close()


def test_a25_a_pooler_that_keeps_no_prepared_statements_is_told_with_what_to_do(
    database: Database,
) -> None:
    filled(database)
    pooled = database.pooled_url(APPLICATION)
    with holdfast.open(pooled, setup=False) as storage:
        assert storage.kv.set("k", 1).value == 1
        found = run("doctor", pooled, "--json")
        report = json.loads(found.stdout)
        assert (found.exit_code, report["server"]["pooled"]) == (0, True)
        assert not any("prepare=off" in advice for advice in report["advice"])
    unaware = pooled.replace("?prepare=off", "")
    with pytest.raises(Unavailable, match="Add prepare=off"):
        read_by_two(unaware)


def read_by_two(url: str) -> None:
    with holdfast.open(url, setup=False) as one, holdfast.open(url, setup=False) as two:
        for storage in (one, two) * 3:
            storage.kv.get("k")


@pytest.mark.parametrize("task", ["analyze", "vacuum", "reindex"])
def test_a29_the_owner_maintains_and_the_application_is_told_that_it_does_not(
    database: Database, task: str
) -> None:
    filled(database)
    done = run("maintain", task, "--store", database.url(OWNER), "--json")
    report = json.loads(done.stdout)
    assert (done.exit_code, report["ok"], report["findings"]) == (0, True, [])
    assert report["counts"]["tables"] > 40
    done = run("maintain", task, "--store", database.url(APPLICATION), "--json")
    report = json.loads(done.stdout)
    assert (done.exit_code, report["ok"]) == (1, False)
    assert report["counts"]["skipped"] > 40
    assert "connect as the store's owner" in report["findings"][0]


def test_a29_integrity_counts_records_and_reports_orphans(database: Database) -> None:
    filled(database)
    asked = ("maintain", "integrity", "--store", database.url(APPLICATION), "--json")
    report = json.loads(run(*asked).stdout)
    assert report["ok"]
    assert report["counts"]["audit_entries"] == 40
    assert run("maintain", "sweep", "--store", database.url(APPLICATION)).exit_code == 0
    database.keeper.execute("DELETE FROM holdfast.memories")  # by one whom no trigger stops
    done = run(*asked)
    assert done.exit_code == 1
    told = " ".join(json.loads(done.stdout)["findings"])
    assert "memories__terms: 2 rows belong to no record" in told
    assert "memories__embedding: 2 rows belong to no record" in told


def test_m6_reindex_leaves_no_index_half_built(database: Database) -> None:
    url = filled(database)
    text = "SELECT count(*) FROM pg_index WHERE indrelid = 'holdfast.memories'::regclass"
    before = database.keeper.execute(text).fetchone()
    assert run("maintain", "reindex", "--store", url).exit_code == 0
    assert database.keeper.execute(text).fetchone() == before
    assert database.keeper.execute(f"{text} AND NOT indisvalid").fetchone() == (0,)
