"""Peers that the bench installs for itself, in .venv-bench; the package never sees them."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
VENV: Final = ROOT / ".venv-bench"
SMALL: Final = (
    "aiosqlite==0.22.1",
    "langgraph-checkpoint-postgres==3.2.0",
    "langgraph-checkpoint-sqlite==3.1.2",
)
"""Always installed."""
LARGE: Final = (
    "chromadb",
    "hnswlib",
    "lancedb",
    "mem0ai",
    "sqlite-vec",
    "tantivy",
    "usearch",
    "zvec",
)
"""Installed when asked for by --peers: hundreds of megabytes."""


def provide(*, large: bool = False) -> None:
    """Install what is missing and let it be imported, behind the packages of this environment."""
    for name in (*SMALL, *LARGE) if large else SMALL:
        if not _stamp(name).exists():
            _install(name)
    reach()


def reach() -> None:
    """Let what is installed be imported."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    place = str(VENV / "lib" / version / "site-packages")
    if place not in sys.path:
        sys.path.append(place)


def _install(name: str) -> None:
    """One peer; where that fails its row says that it is not installed."""
    if not (VENV / "bin" / "python").exists():
        subprocess.run([sys.executable, "-m", "venv", str(VENV)], check=True)
    command = [str(VENV / "bin" / "python"), "-m", "pip", "install", "--quiet", name]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        print(f"{name} was not installed: {done.stderr.strip()[-200:]}", file=sys.stderr)
    else:
        _stamp(name).touch()


def missing(module: str) -> str:
    """Why a peer's row cannot run; empty when it can."""
    return "" if importlib.util.find_spec(module) else "not installed"


def _stamp(name: str) -> Path:
    return VENV / f"installed-{name}"
