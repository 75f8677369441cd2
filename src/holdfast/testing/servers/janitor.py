"""Ends what a test run started, once nobody of the run is left; run as a file, needs no package.

Every process of a run holds a shared lock on the run's ``lease`` file, and the system lets go of
it however the process ends. So this one only waits for the lock to be free.

Usage: python janitor.py FOLDER
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

GRACE_SECONDS = 5.0
REMOVAL_SECONDS = 30.0
POLL_SECONDS = 0.02


def main(folder: Path) -> None:
    """Wait for the run's end, then stop its servers and remove its folder."""
    with (folder / "lease").open("rb") as lease:
        fcntl.flock(lease, fcntl.LOCK_EX)
        for path in folder.rglob("*.pid"):
            with contextlib.suppress(OSError, ValueError, IndexError):
                end(int(path.read_text().split()[0]), folder)
        remove(folder)


def remove(folder: Path) -> None:
    """Remove it with what the last processes of a killed server still write meanwhile."""
    shutil.rmtree(folder, ignore_errors=True)
    deadline = time.monotonic() + REMOVAL_SECONDS
    # A lease that is there again belongs to a process that came after.
    while folder.exists() and not (folder / "lease").exists() and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
        shutil.rmtree(folder, ignore_errors=True)


def end(pid: int, folder: Path) -> None:
    """Stop a server of this folder: politely, then not. A number that was reused is left alone."""
    if str(folder) not in command(pid):
        return
    os.kill(pid, signal.SIGCONT)
    os.kill(pid, signal.SIGINT)
    deadline = time.monotonic() + GRACE_SECONDS
    while str(folder) in command(pid):
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
        time.sleep(POLL_SECONDS)


def command(pid: int) -> str:
    """The command line of a live process; empty when it is gone, also when it is not reaped yet."""
    proc = Path(f"/proc/{pid}/cmdline")
    if Path("/proc/self/cmdline").exists():
        with contextlib.suppress(OSError):
            return proc.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        return ""
    told = subprocess.run(
        ["ps", "-o", "command=", "-p", str(pid)], capture_output=True, check=False
    )
    return told.stdout.decode(errors="replace")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
