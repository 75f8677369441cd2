"""The folder of a test run: shared by its workers, removed with its servers when all have ended."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Final

NOBODY: Final = 65534
"""Servers refuse to run as root; then they run as this user."""
REACHABLE: Final = 0o711
"""A folder that others may pass through and not list."""

AS_NOBODY: Final[dict[str, Any]] = (
    {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}
)
"""How `subprocess` is told to start a server as somebody who may run one."""


@cache
def folder() -> Path:
    """The run's folder. The workers of one pytest-xdist run get the same one."""
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID") or uuid.uuid4().hex
    path = _reachable_place() / f"holdfast-{os.geteuid()}-{run}"
    while not _hold(path):
        pass  # a run's last process had just ended, and its janitor took the folder away
    with locked(path):
        if not (path / "janitor").exists():
            program = Path(__file__).with_name("janitor.py")
            subprocess.Popen(
                [sys.executable, "-I", "-S", str(program), str(path)],
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # an interrupt of the run is not its end
            ).returncode = 0  # nobody waits for it
            (path / "janitor").touch()
    return path


def new_folder(prefix: str) -> Path:
    """An empty folder in the run's, which belongs to who runs the servers."""
    path = Path(tempfile.mkdtemp(prefix=f"{prefix}-", dir=folder()))
    if AS_NOBODY:
        os.chown(path, NOBODY, NOBODY)
    return path


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """One process of the run at a time."""
    with (path / "lock").open("wb") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def passable(path: Path) -> bool:
    """Whether any user may reach this file or folder."""
    return all(part.stat().st_mode & 0o001 for part in (path, *path.parents))


def _hold(path: Path) -> bool:
    """Take this process's part of the lease, which it keeps until it ends."""
    try:
        path.mkdir(mode=REACHABLE, exist_ok=True)
        lease = os.open(path / "lease", os.O_RDWR | os.O_CREAT, 0o600)
        if path.stat().st_uid != os.geteuid():
            raise PermissionError(f"{path} belongs to somebody else")
        fcntl.flock(lease, fcntl.LOCK_SH)
        if os.stat(path / "lease").st_ino == os.fstat(lease).st_ino:
            return True
        os.close(lease)
    except FileNotFoundError:
        pass
    return False


def _reachable_place() -> Path:
    places = [Path(tempfile.gettempdir()), Path("/tmp")]
    for place in places:
        if not AS_NOBODY or passable(place.resolve()):
            return place.resolve()
    raise PermissionError(f"The servers' user cannot reach {places[0]}; set TMPDIR.")
