"""Peers that the bench installs for itself, in .venv-bench; the package never sees them."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
VENV: Final = ROOT / ".venv-bench"
SMALL: Final = ("aiosqlite==0.22.1",)
"""Always installed."""
LARGE: Final = ("chromadb",)
"""Installed when asked for by --peers: hundreds of megabytes."""


def provide(*, large: bool = False) -> None:
    """Install what is missing and let it be imported, behind the packages of this environment."""
    wanted = (*SMALL, *LARGE) if large else SMALL
    if not all(_stamp(name).exists() for name in wanted):
        if not (VENV / "bin" / "python").exists():
            subprocess.run([sys.executable, "-m", "venv", str(VENV)], check=True)
        command = [str(VENV / "bin" / "python"), "-m", "pip", "install", "--quiet", *wanted]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode:
            print(f"Peers were not installed: {done.stderr.strip()[-200:]}", file=sys.stderr)
        else:
            for name in wanted:
                _stamp(name).touch()
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    place = str(VENV / "lib" / version / "site-packages")
    if place not in sys.path:
        sys.path.append(place)


def missing(module: str) -> str:
    """Why a peer's row cannot run; empty when it can."""
    return "" if importlib.util.find_spec(module) else "not installed"


def _stamp(name: str) -> Path:
    return VENV / f"installed-{name}"
