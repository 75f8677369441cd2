"""A PostgreSQL cluster in a folder of its own, on a free port of this machine."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from holdfast.testing.servers.builds import Build, find
from holdfast.testing.servers.pids import alive, family, kill, wait_for
from holdfast.testing.servers.run import AS_NOBODY, NOBODY, folder, new_folder

FAST: Final = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}
"""For tests that do not pull the plug."""
START_SECONDS: Final = 120.0
STOP_SECONDS: Final = 60.0
PORTS: Final = range(20_000, 32_000)
"""Below those of connections that are made: one of them could be taken before the server starts."""


class Server:
    """One cluster; may be stopped, killed, frozen and started again. Trusts who connects."""

    def __init__(self, build: Build, data: Path, port: int) -> None:
        self.build = build
        self.data = data
        self.port = port
        self._process: subprocess.Popen[bytes] | None = None

    @classmethod
    def create(cls, build: Build, settings: Mapping[str, str]) -> Server:
        """A new cluster, not started yet."""
        data = new_folder("postgres") / "data"
        made = cls(build, data, free_port())
        options = ("-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync")
        made.run("initdb", "-D", str(data), *options)
        made.configure(settings)
        return made

    def standby(self) -> Server:
        """A streaming copy of this running server, not started yet."""
        made = Server(self.build, new_folder("standby") / "data", free_port())
        source = ("-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres", "-D", str(made.data))
        slot = ("-C", "-S", f"standby_{made.port}")
        self.run("pg_basebackup", *source, *slot, "-R", "-X", "stream", "-c", "fast", "--no-sync")
        made.configure({})
        return made

    def promote(self) -> None:
        """Make a standby take writes, and return once it does."""
        self.run("pg_ctl", "promote", "-w", "-D", str(self.data))

    def configure(self, settings: Mapping[str, str]) -> None:
        """Add settings, which hold from the next start on; later ones win."""
        ours = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "max_connections": "200",
        }
        if sys.platform == "linux":  # else a restart after a kill syncs every file by itself
            ours["recovery_init_sync_method"] = "syncfs"
        with (self.data / "postgresql.conf").open("a") as file:
            file.writelines(f"{name} = '{text}'\n" for name, text in {**ours, **settings}.items())

    def url(self, database: str = "postgres", *, user: str = "postgres") -> str:
        """Where to connect, as a role that this server trusts."""
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Start it and return once it takes connections."""
        with (self.data.parent / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self.build.program("postgres"), "-D", str(self.data)],
                env=self.build.environment(),
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # an interrupt at the terminal is not meant for it
                **AS_NOBODY,
            )
        wait_for(self._started, seconds=START_SECONDS)

    def stop(self) -> None:
        """Stop it as an operator would: clients are sent away, and what is written is kept."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGCONT)
            self._process.send_signal(signal.SIGINT)
            self._process.wait(STOP_SECONDS)

    def kill(self) -> None:
        """End every process of the cluster without warning, as a machine that dies would."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGSTOP)  # or it would have another child meanwhile
            doomed = family(self._process.pid)
            self._process.kill()
            self._process.wait()
            kill(doomed)

    def restart(self) -> None:
        """Stop it and start it again."""
        self.stop()
        self.start()

    def freeze(self) -> None:
        """Let no process of the cluster go on, so that nobody is answered or sent away."""
        for pid in self._family():
            os.kill(pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let them go on."""
        for pid in self._family():
            os.kill(pid, signal.SIGCONT)

    def abandon(self) -> None:
        """Leave it running when this process ends; the run's janitor stops it."""
        if self._process is not None:
            self._process.returncode = 0

    def psql(self, text: str, database: str = "postgres", *, user: str = "postgres") -> str:
        """What psql prints for SQL, unaligned and without headings."""
        url = self.url(database, user=user)
        return self.run("psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-c", text, url)

    def log(self) -> str:
        """What the server has written to its log."""
        return (self.data.parent / "log").read_text(errors="replace")

    def run(self, program: str, *arguments: str) -> str:
        """Run one of the build's programs as the server's user, and return what it prints."""
        done = subprocess.run(
            [self.build.program(program), *arguments],
            env=self.build.environment(),
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            **AS_NOBODY,
        )
        if done.returncode:
            raise RuntimeError(f"{program} failed: {done.stderr.strip()}")
        return str(done.stdout).strip()

    def give(self, path: Path) -> Path:
        """Let the server's user own a file or a folder."""
        if AS_NOBODY:
            os.chown(path, NOBODY, NOBODY)
        return path

    def _family(self) -> list[int]:
        return family(self._process.pid) if self._process else []

    def _started(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise RuntimeError(f"PostgreSQL did not start: {self.log()[-2000:]}")
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        # Line 1 may still name a predecessor; the last line is written when it is ready.
        mine = lines[:1] == [str(self._process.pid)]
        return mine and lines[-1].strip() in ("ready", "standby") and alive(self._process.pid)


def free_port() -> int:
    """A port of this machine that nobody listens on, and that the run gives to nobody else."""
    while True:
        port = random.choice(PORTS)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            (folder() / f"port-{port}").touch(exist_ok=False)
            return port


@contextmanager
def running(
    build: str = "modern",
    *,
    durable: bool = False,
    settings: Mapping[str, str] | None = None,
) -> Iterator[Server]:
    """A server of one's own for the block. Unless ``durable``, a machine's crash may harm it."""
    server = Server.create(find(build), {**({} if durable else FAST), **(settings or {})})
    with started(server):
        yield server


@contextmanager
def started(server: Server) -> Iterator[Server]:
    """Run a server that was made, until the block ends."""
    try:
        server.start()
        yield server
    finally:
        server.kill()
