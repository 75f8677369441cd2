"""`holdfast doctor`: what is installed, what is in the file, and what to do about it."""

from __future__ import annotations

import os
import sys
from typing import Any

import click

from holdfast.cli import output
from holdfast.cli.command import Leaf, is_empty, settings
from holdfast.core.driver import Report
from holdfast.core.errors import Corrupt, HoldfastError, Invalid, NotFound
from holdfast.core.visible import visible


@click.command(cls=Leaf, short_help="Look at the installation and at a store.")
@click.argument("path", required=False, metavar="[PATH|URL]")
@click.option("--role", metavar="NAME", help="On PostgreSQL: look at this role, not at the URL's.")
def doctor(path: str | None, role: str | None) -> int:
    """Look at the installation and at the store in PATH, and say what to do.

    A damaged file is only read: the records that can still be read are counted. A sound one is
    opened as by any command, so an older edition is brought up to date. On PostgreSQL nothing is
    changed; connect as the application does, since what is looked at is also what that role could
    do. The exit status is 1 when something is wrong.
    """
    held = settings()
    if path is not None:
        held.store = path
    target = held.path
    if path is not None and target is not None and not os.path.exists(target):
        raise NotFound(f"There is no file at {target}.")
    found: dict[str, Any] = {"versions": versions(), "sqlite_copies": sqlite_copies()}
    advice: list[str] = []
    if target is None and is_postgres(held.store):
        from holdfast.cli.doctor_postgres import examined

        found |= examined(held.store, role, advice)
    elif role is not None:
        raise Invalid("role", expected="a postgresql:// URL beside it", got="another store")
    elif target is None:
        advice.append("The store is no file; nothing to look at.")
    elif not os.path.exists(target):
        advice.append(f"There is no store at {target} yet: holdfast remember TEXT makes one.")
    else:
        found |= {"file": file_facts(target), **_examined(target, advice)}
    ok = bool(found.get("integrity", {}).get("ok", True)) and not found.get("problems")
    said = "Nothing is wrong." if ok else "Not all of it could be checked; see findings."
    report = {"ok": ok, **found, "advice": advice or [said]}
    if held.form in ("json", "jsonl"):
        output.emit(report)
    else:
        _print(report)
    return 0 if ok else 1


def is_postgres(store: str) -> bool:
    """Whether a store's URL is one of a PostgreSQL."""
    scheme = store.partition(":")[0].partition("+")[0]
    return ":" in store and scheme in ("postgresql", "postgres", "supabase")


def versions() -> dict[str, str]:
    """What runs here."""
    import apsw
    import msgspec
    import numpy

    from holdfast import __version__

    return {
        "holdfast": __version__,
        "python": sys.version.split()[0],
        "sqlite": apsw.sqlite_lib_version(),
        "apsw": apsw.apsw_version(),
        "numpy": numpy.__version__,
        "msgspec": msgspec.__version__,
        "platform": f"{sys.platform} {os.uname().machine}"
        if hasattr(os, "uname")
        else sys.platform,
    }


def sqlite_copies() -> list[dict[str, str]]:
    """The copies of SQLite in this process, each with its version and its use."""
    import sqlite3

    import apsw

    return [
        {
            "library": "apsw",
            "version": apsw.sqlite_lib_version(),
            "note": "the one that holdfast uses",
        },
        {
            "library": "sqlite3",
            "version": sqlite3.sqlite_version,
            "note": "Python's own; refused on a file that holdfast holds open",
        },
    ]


def file_facts(path: str) -> dict[str, Any]:
    """What can be told of a file without opening it as a database."""
    status = os.stat(path)
    with open(path, "rb") as file:
        head = file.read(100)
    wal = f"{path}-wal"
    facts: dict[str, Any] = {
        "path": os.path.abspath(path),
        "bytes": status.st_size,
        "wal_bytes": os.path.getsize(wal) if os.path.exists(wal) else 0,
        "mode": oct(status.st_mode & 0o777),
    }
    if len(head) == 100 and head.startswith(b"SQLite format 3\0"):
        size = int.from_bytes(head[16:18], "big")
        facts |= {
            "page_bytes": 65536 if size == 1 else size,
            "format": int.from_bytes(head[60:64], "big"),
            "made_by": "holdfast" if head[68:72] == b"HOLD" else "another program",
        }
    return facts


def _examined(path: str, advice: list[str]) -> dict[str, Any]:
    """Check the pages read-only first; only a sound file is opened as a store."""
    from holdfast.backends.sqlite.header import check_header
    from holdfast.backends.sqlite.maintenance import salvage

    if os.path.getsize(path) == 0:
        return _empty(path, advice)
    try:
        check_header(path)
        damage = _page_damage(path)
        if not damage:
            return _integrity(path, advice)
    except Corrupt as error:
        damage = [error.message]
        if "log" in error.context:
            advice.append(error.hint)
        elif file_facts(path).get("made_by") == "another program":
            advice.append(error.hint)
            return {"integrity": {"ok": False, "findings": damage}}
    except HoldfastError as error:
        advice += [error.hint] if error.hint else []
        return {"integrity": {"ok": False, "findings": [error.message]}}
    except Exception as error:  # noqa: BLE001 - whatever a check met, the file is not sound
        damage = [f"A check ended in an error of its own: {type(error).__name__}."]
    report = salvage(path)
    counts = {name: count for name, count in report.counts.items() if count and _is_told(name)}
    readable = sum(counts.values())
    advice.append("Keep a copy of the file and of its -wal before anything else.")
    advice.append("If there is a backup: holdfast restore BACKUP NEW-PATH.")
    if readable:
        advice.append(f"{readable} records can still be read, by kind under salvage. Without a")
        advice.append("backup, SQLite's own shell gets them out of a copy: sqlite3 COPY .recover")
    return {
        "integrity": {"ok": False, "findings": damage},
        "salvage": {"records": counts, "findings": report.findings},
    }


def _empty(path: str, advice: list[str]) -> dict[str, Any]:
    """Nothing opens it: SQLite would make a database of it, and delete the log beside it."""
    damage = "The file is empty; there is no store in it."
    try:
        is_empty(path)
        advice.append("If a store was in it: holdfast restore BACKUP NEW-PATH.")
    except Corrupt as error:
        damage = error.message
        advice.append(error.hint)
    return {"integrity": {"ok": False, "findings": [damage]}}


def _is_told(table: str) -> bool:
    """Whether a table holds records: not the engine's own, nor what is derived from records."""
    return not table.startswith("holdfast_") and "__" not in table


def _page_damage(path: str) -> list[str]:
    import apsw

    from holdfast.backends.sqlite.errors import mapped
    from holdfast.backends.sqlite.header import looking

    try:
        with looking(path) as connection:
            found = connection.execute("PRAGMA integrity_check(20)").fetchall()
    except apsw.Error as error:
        raise mapped(error) from error
    return [str(text) for (text,) in found if text != "ok"]


def integrity(path: str) -> Report:
    """Open the sound file as a store, decode every record, compare what is derived."""
    from holdfast.core.clock import SystemClock
    from holdfast.open import open_driver
    from holdfast.storage import all_collections

    driver = open_driver(path, SystemClock())
    try:
        driver.setup(all_collections())
        return driver.maintain("integrity")
    finally:
        driver.close()


def _integrity(path: str, advice: list[str]) -> dict[str, Any]:
    report = integrity(path)
    if not report.ok:
        advice.append("Some records do not decode or are not found by search; see findings.")
    held = {name: count for name, count in report.counts.items() if count}
    return {"integrity": {"ok": report.ok, "findings": report.findings}, "records": held}


def _print(report: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(soft_wrap=True, highlight=False)
    for title, content in report.items():
        if title == "ok":
            continue
        console.print(Text(title.replace("_", " "), style="bold"))
        for line in _lines(content):
            console.print(Text(f"  {visible(line)}"))


def _lines(content: Any) -> list[str]:
    """Names and values in columns; a list's items below each other."""
    if not isinstance(content, dict):
        return [_told(each) for each in content] or ["none"]
    width = max((len(name) for name in content), default=0)
    lines = []
    for name, value in content.items():
        first, *more = value if isinstance(value, list) and value else [value]
        lines.append(f"{name:<{width}}  {_told(first)}")
        lines += [f"{'':<{width}}  {_told(each)}" for each in more]
    return lines


def _told(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_told(each)}" for name, each in value.items()) or "none"
    if isinstance(value, list):
        return "; ".join(map(_told, value)) or "none"
    return (
        {True: "yes", False: "no"}.get(value, str(value)) if isinstance(value, bool) else str(value)
    )
