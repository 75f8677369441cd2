"""The conformance suite on each PostgreSQL that is at hand: what fails on one of them is a finding.

A case may be skipped only for what its engine says that it lacks, and an engine lacks what the
table of builds says. The saboteur is a server that takes no writes.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final
from xml.etree import ElementTree

import msgspec
import psycopg

from holdfast.testing.servers import GIVEN, Server, running
from holdfast.testing.servers.builds import SEPARATE
from soak.campaign import Result, Saboteur, Tick, folder, ignore, timed

ROOT: Final = Path(__file__).parent.parent
SUITE: Final = (
    "tests/backends/test_postgres.py",
    "tests/backends/test_postgres_isolation.py",
    "tests/backends/test_postgres_plans.py",
    "tests/backends/test_postgres_wire.py",
)
"""The whole suite, and what a release may do otherwise: plans, and what it answers when."""
WITH_VECTORS: Final = ("tests/backends/test_postgres_search.py",)
"""Graphs and segments, where there are vectors."""
PREVIOUS: Final = "previous"
"""The build that no test needs, so that it is not there until it is asked for here."""
REQUIREMENTS: Final = ROOT / "requirements" / "matrix.txt"
BUILDS: Final[Mapping[str, bool]] = {
    "oldest": False,
    "old vectors": False,
    PREVIOUS: True,
    "tls": True,
    "modern": True,
}
"""The builds, oldest first, and whether the engine has vectors on them."""
WORKERS: Final = "2"
LACKING: Final = "no vectors: "
"""What a reason to skip begins with where the engine said so."""
FEW: Final = "TestKeyValue"
"""Cases enough for a server that fails them all."""
QUIET: Final = {"autovacuum": "off"}
"""As on the run's own server, for the sake of the plans."""


class Told(msgspec.Struct):
    """What one run of pytest came to."""

    passed: int = 0
    failed: list[str] = []
    skipped: dict[str, int] = {}

    @property
    def cases(self) -> int:
        """Every case that was tried."""
        return self.passed + len(self.failed) + sum(self.skipped.values())


def run(builds: int, *, seed: int = 1, tick: Tick = ignore, only: str = "") -> Result:
    """The suite on so many builds, oldest first; ``only`` is an expression that selects cases."""
    result = Result(
        campaign="pg-matrix",
        trial=f"the suite on another PostgreSQL{f' ({only})' if only else ''}",
        trials=0,
        seed=seed,
    )
    refusing = Saboteur(name="a server that takes no writes")
    with timed(result):
        for done, (build, vectors) in enumerate(list(BUILDS.items())[:builds], start=1):
            if build == PREVIOUS:
                _unpack()
            with running(build, settings=QUIET) as server:
                told = suite_on(server, only, vectors=vectors)
                version = _version(server)
            result.trials += told.cases
            result.count(f"cases_passed_on_PostgreSQL_{version}", told.passed)
            for reason, count in told.skipped.items():
                result.count(f"skipped_on_{version}:_{reason}", count)
            judge(told, build, vectors=vectors, note=result.note)
            tick(done)
        with running(settings=QUIET | {"default_transaction_read_only": "on"}) as server:
            told = suite_on(server, FEW)
        refusing.trials = told.cases
        judge(told, "modern", vectors=True, note=refusing.note)
    result.saboteurs.append(refusing)
    return result


def judge(told: Told, build: str, *, vectors: bool, note: Callable[[str], None]) -> None:
    """Note what failed, what was skipped without a right to, and what was not skipped as told."""
    for failure in told.failed:
        note(f"{build}: {failure}")
    lacking = sum(n for reason, n in told.skipped.items() if reason.startswith(LACKING))
    for reason, count in told.skipped.items():
        if vectors or not reason.startswith(LACKING):
            note(f"{build}: {count} cases were skipped: {reason}")
    if not vectors and not lacking and told.cases:
        note(f"{build}: nothing was skipped, as if there were vectors")
    if not told.passed:
        note(f"{build}: no case passed")


def suite_on(
    server: Server, only: str = "", workers: str = WORKERS, *, vectors: bool = False
) -> Told:
    """Run the suite on a server, in a process of its own; ``vectors`` says what it offers."""
    files = (*SUITE, *WITH_VECTORS) if vectors else SUITE
    kept = {name: text for name, text in os.environ.items() if not name.startswith("PYTEST_")}
    with folder() as place:
        report = place / "report.xml"
        done = subprocess.run(
            [
                *(sys.executable, "-m", "pytest", *files, "-q", "-k", only, "-n", workers),
                *("-p", "no:cacheprovider", f"--junitxml={report}"),
            ],
            cwd=ROOT,
            env={**kept, GIVEN: server.url()},
            capture_output=True,
            text=True,
            check=False,
        )
        if not report.exists():
            return Told(failed=[f"pytest: {done.stdout[-500:]}{done.stderr[-500:]}"])
        return _read(report)


def _version(server: Server) -> str:
    # By the driver: what psql of one wheel does at its start is to crash.
    with psycopg.connect(server.url()) as connection:
        return str(connection.info.parameter_status("server_version")).split()[0]


def _unpack() -> None:
    """Unpack the wheel of `PREVIOUS` beside the others; its binaries fit any Python."""
    wheels = (
        "--no-deps",
        "--only-binary",
        ":all:",
        "--python-version",
        "3.12",
        "--ignore-requires-python",
    )
    place = ("--quiet", "--upgrade", "--target", str(SEPARATE))
    pip = (sys.executable, "-m", "pip", "install", "--disable-pip-version-check")
    hashes = ("--require-hashes", "-r", str(REQUIREMENTS))
    subprocess.run([*pip, *wheels, *place, *hashes], check=True)


def _read(report: Path) -> Told:
    told = Told()
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        name = f"{case.get('classname', '').rpartition('.')[2]}.{case.get('name', '')}"
        broken, skipped = case.find("failure"), case.find("skipped")
        broken = case.find("error") if broken is None else broken
        if broken is not None:
            told.failed.append(f"{name}: {(broken.get('message') or '').splitlines()[:1]}")
        elif skipped is not None:
            reason = skipped.get("message") or "without a reason"
            told.skipped[reason] = told.skipped.get(reason, 0) + 1
        else:
            told.passed += 1
    return told
