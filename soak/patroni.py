"""Three PostgreSQL under Patroni, which agree among themselves on who takes writes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from holdfast.testing.servers.builds import Build, MissingServer, find
from holdfast.testing.servers.pids import family, kill, wait_for
from holdfast.testing.servers.postgres import free_port
from holdfast.testing.servers.run import AS_NOBODY, NOBODY, new_folder, passable

REQUIREMENTS: Final = Path(__file__).parent.parent / "requirements" / "patroni.txt"
NODES: Final = 3
TTL_SECONDS: Final = 20
"""How long a leader is believed to live after its last word; Patroni takes no less."""
WHOLE_SECONDS: Final = 180.0
"""All nodes have to be at work so soon after a start or a change of leaders."""
ANSWER_SECONDS: Final = 2.0
PYTHONS: Final = (sys._base_executable, "/usr/bin/python3")  # type: ignore[attr-defined]


class Node:
    """One PostgreSQL and the Patroni that tends it."""

    def __init__(self, number: int, build: Build) -> None:
        self.name = f"node{number}"
        self.port, self.api, self.raft = free_port(), free_port(), free_port()
        self.place = new_folder(self.name)
        self._build = build
        self._process: subprocess.Popen[bytes] | None = None

    def configure(self, partners: list[Node], *, synchronous: bool) -> None:
        """Write what Patroni reads when it starts."""
        address = "127.0.0.1"
        settings = {
            "scope": "holdfast",
            "name": self.name,
            "restapi": _at(f"{address}:{self.api}"),
            "raft": {
                "data_dir": str(self.place / "raft"),
                "self_addr": f"{address}:{self.raft}",
                "partner_addrs": [f"{address}:{node.raft}" for node in partners],
            },
            "bootstrap": {
                "dcs": {
                    "ttl": TTL_SECONDS,
                    "loop_wait": 2,
                    "retry_timeout": 5,
                    "synchronous_mode": synchronous,
                    "postgresql": {"use_pg_rewind": True, "parameters": {"wal_log_hints": "on"}},
                },
                "initdb": [{"encoding": "UTF8"}, {"locale": "C"}, "no-sync"],
            },
            "postgresql": {
                **_at(f"{address}:{self.port}"),
                "data_dir": str(self.place / "data"),
                "bin_dir": str(self._build.binaries),
                "pgpass": str(self.place / "pgpass"),
                "pg_hba": [
                    f"host {what} all 127.0.0.1/32 trust" for what in ("all", "replication")
                ],
                "authentication": {
                    "superuser": {"username": "postgres"},
                    "replication": {"username": "replicator"},
                    "rewind": {"username": "rewinder"},
                },
                "parameters": {"unix_socket_directories": ""},
            },
        }
        (self.place / "patroni.json").write_text(json.dumps(settings))

    def start(self, python: str, packages: Path) -> None:
        """Start Patroni, which starts or clones its PostgreSQL by itself."""
        with (self.place / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [python, "-m", "patroni", str(self.place / "patroni.json")],
                env={**self._build.environment(), "PYTHONPATH": str(packages)},
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # an interrupt at the terminal is not meant for it
                **AS_NOBODY,
            )
        (self.place / "patroni.pid").write_text(str(self._process.pid))

    def kill(self) -> None:
        """End Patroni and every process of its PostgreSQL, as a machine that dies would."""
        if self._process is None:
            return
        doomed = family(self._process.pid)
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            postmaster = int((self.place / "data" / "postmaster.pid").read_text().split()[0])
            os.kill(postmaster, signal.SIGSTOP)  # or it would have another child meanwhile
            doomed += family(postmaster)
        self._process.kill()
        self._process.wait()
        kill(doomed)

    def members(self) -> list[dict[str, Any]]:
        """What this node knows of the cluster; nothing while it does not answer."""
        try:
            address = f"http://127.0.0.1:{self.api}/cluster"
            with urllib.request.urlopen(address, timeout=ANSWER_SECONDS) as told:
                found: list[dict[str, Any]] = json.load(told).get("members", [])
                return found
        except (OSError, ValueError):
            return []

    def log(self) -> str:
        """What Patroni and PostgreSQL have written."""
        return (self.place / "log").read_text(errors="replace")


class Cluster:
    """The nodes together; one leads."""

    def __init__(self, *, synchronous: bool) -> None:
        self._python = _python()
        self._packages = _installed(self._python)
        self._synchronous = synchronous
        self.nodes = [Node(number, find()) for number in range(NODES)]
        for node in self.nodes:
            others = [other for other in self.nodes if other is not node]
            node.configure(others, synchronous=synchronous)

    def start(self) -> None:
        """Start every node, and return once one leads and the others follow."""
        for node in self.nodes:
            node.start(self._python, self._packages)
        self.wait_until_whole()

    def wait_until_whole(self) -> None:
        """Return once one leads, and all others follow it, one of them in step with it."""
        try:
            wait_for(self._is_whole, seconds=WHOLE_SECONDS)
        except TimeoutError:
            logs = "\n".join(f"{node.name}: {node.log()[-1000:]}" for node in self.nodes)
            raise TimeoutError(f"the cluster did not get whole:\n{logs}") from None

    def leader(self) -> Node:
        """The node that takes writes."""
        for member in self._members():
            if member["role"] == "leader":
                return next(node for node in self.nodes if node.name == member["name"])
        raise LookupError("nobody leads")

    def revive(self, node: Node) -> None:
        """Start a node that was killed; it follows whoever leads by now."""
        node.start(self._python, self._packages)

    def url(self, database: str) -> str:
        """A database by way of all nodes, on the one that takes writes."""
        hosts = ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)
        return f"postgresql://postgres@{hosts}/{database}?target_session_attrs=read-write"

    def kill(self) -> None:
        """End all of it."""
        for node in self.nodes:
            node.kill()

    def _members(self) -> list[dict[str, Any]]:
        return next(filter(None, (node.members() for node in self.nodes)), [])

    def _is_whole(self) -> bool:
        told = [(member["role"], member["state"]) for member in self._members()]
        following = {"sync_standby", "replica"} if self._synchronous else {"replica"}
        return (
            len(told) == NODES
            and all(state in ("running", "streaming") for _, state in told)
            and {role for role, _ in told} == {"leader", *following}
        )


@contextmanager
def cluster(*, synchronous: bool = True) -> Iterator[Cluster]:
    """A cluster for the block. Unless ``synchronous``, a commit waits for no other node."""
    made = Cluster(synchronous=synchronous)
    try:
        made.start()
        yield made
    finally:
        made.kill()


def _at(address: str) -> dict[str, str]:
    return {"listen": address, "connect_address": address}


def _python() -> str:
    """An interpreter that the servers' user may run."""
    for path in PYTHONS:
        if Path(path).exists() and (not AS_NOBODY or passable(Path(path).resolve())):
            return str(path)
    raise MissingServer("Patroni needs a Python that every user may read: Debian's python3.")


def _installed(python: str) -> Path:
    """Patroni and what it needs, by their hashes, in a folder of their own."""
    uv = Path(sys.prefix) / "bin" / "uv"
    if not uv.exists():
        raise MissingServer("The campaign on Patroni installs it with uv; `make soak` brings that.")
    packages = new_folder("packages")
    command = [str(uv), "pip", "install", "--quiet", "--system-certs", "--require-hashes"]
    where = ["--python", python, "--target", str(packages), "-r", str(REQUIREMENTS)]
    subprocess.run([*command, *where], check=True, cwd="/", stdin=subprocess.DEVNULL)
    if AS_NOBODY:
        os.chown(packages, NOBODY, NOBODY)
    return packages
