"""What the repository itself must not hold: paths of one machine, loose pins, addresses."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.tidy.source import Violation

# Written in pieces, so that this file does not contain what it looks for.
MACHINE_PATHS = re.compile(r"(?<![\w.~-])/(?:work|root)/|(?<!\w)\.lib" + "rary(?!\\w)")
EXACT = re.compile(r"[\w.-]+(\[[\w,.-]+\])?==\S")
HASHED = re.compile(r"--hash=sha256:[0-9a-f]{64}")
SKIPPED = frozenset({".git", ".venv", "node_modules", "__pycache__", "dist", "build"})
FORBIDDEN_FILES = frozenset(
    {"uv.lock", "poetry.lock", "Pipfile.lock", "pip.conf", "uv.toml", ".env"}
)


def files(root: Path) -> list[Path]:
    """What git tracks or would track; the whole folder where there is no git."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    if (root / ".git").exists():
        listed = subprocess.run(command, cwd=root, capture_output=True, check=True, text=True)
        names = [root / name for name in listed.stdout.split("\0") if name]
    else:
        names = [p for p in root.rglob("*") if not SKIPPED & set(p.relative_to(root).parts)]
    return sorted(path for path in names if path.is_file())


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines of a text file; nothing for a binary one."""
    content = path.read_bytes()
    if b"\0" not in content[:8192]:
        yield from enumerate(content.decode("utf-8", "replace").splitlines(), 1)


def machine_paths(root: Path) -> list[Violation]:
    """Paths that exist on one machine only."""
    return [
        Violation(path.relative_to(root).as_posix(), number, f"machine path {found.group()}")
        for path in files(root)
        for number, line in lines(path)
        if (found := MACHINE_PATHS.search(line))
    ]


def named_hosts(root: Path, hosts: set[str]) -> list[Violation]:
    """Mentions of hosts that belong to the machine on which the tests run."""
    return [
        Violation(path.relative_to(root).as_posix(), number, f"workplace host {host}")
        for path in files(root)
        for number, line in lines(path)
        for host in hosts
        if host in line
    ]


def forbidden_files(root: Path) -> list[Violation]:
    """Lock files of other tools, and configuration of one machine."""
    return [
        Violation(path.relative_to(root).as_posix(), 1, "must not be in the repository")
        for path in files(root)
        if path.name in FORBIDDEN_FILES
    ]


def loose_pins(root: Path) -> list[Violation]:
    """Pinned requirements must be exact, hashed, and free of addresses, paths and options."""
    return [
        Violation(path.relative_to(root).as_posix(), number, text)
        for path in sorted((root / "requirements").glob("*.txt"))
        for number, text in _loose(path)
    ]


def _loose(path: Path) -> Iterator[tuple[int, str]]:
    requirement = ""
    started = 0
    for number, line in lines(path):
        if "://" in line or re.match(r"\s*(-[ifer]\b|--(?!hash=))|\s*[./]", line):
            yield number, f"an address, a path or an option: {line.strip()}"
        if line.strip().startswith("#") or not line.strip():
            continue
        started = started if requirement else number
        requirement += line.rstrip("\\")
        if line.endswith("\\"):
            continue
        if not (
            re.match(r"[\w.-]+(\[[\w,.-]+\])?==\S", requirement) and HASHED.search(requirement)
        ):
            yield started, f"not an exact pin with a hash: {requirement.strip()[:60]}"
        requirement = ""
