"""The repository holds nothing of the machine it was written on."""

from __future__ import annotations

import subprocess
import sys
from urllib.parse import urlsplit

import pytest

from tests.tidy.conftest import Tree
from tests.tidy.repository import (
    files,
    forbidden_files,
    loose_pins,
    machine_paths,
    named_hosts,
)
from tests.tidy.source import REPOSITORY, assert_clean

PUBLIC = {"pypi.org", "files.pythonhosted.org"}
PINNED = "a==1.0 ; python_version < '3.14' \\\n    --hash=sha256:" + "0" * 64 + "\n    # via b\n"


def index_hosts() -> set[str]:
    """Hosts that this machine's pip is told to install from, other than the public ones."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    words = listed.replace("'", " ").replace('"', " ").replace("\\n", " ").split()
    hosts = {urlsplit(word).hostname or "" for word in words if "://" in word}
    return hosts - PUBLIC - {"", "localhost", "127.0.0.1"}


def test_there_is_no_machine_path() -> None:
    assert_clean(machine_paths(REPOSITORY))


def test_there_is_no_workplace_host() -> None:
    assert_clean(named_hosts(REPOSITORY, index_hosts()))


def test_there_is_no_foreign_lock_file() -> None:
    assert_clean(forbidden_files(REPOSITORY))


def test_every_pin_is_exact_hashed_and_free_of_addresses() -> None:
    assert_clean(loose_pins(REPOSITORY))
    assert {p.name for p in (REPOSITORY / "requirements").glob("*.txt")} >= {
        "dev.txt",
        "runtime.txt",
        "uv.txt",
    }


def test_the_listing_reads_this_repository() -> None:
    assert REPOSITORY / "pyproject.toml" in files(REPOSITORY)


HARMLESS = "~/" + "work/x and home" + "work/x and a li" + "brary"


@pytest.mark.parametrize("path", ["/" + "work/x", "/" + "root/.cache", "a/.lib" + "rary/b"])
def test_saboteur_machine_path_is_caught(path: str, tree: Tree) -> None:
    root = tree({"docs/a.md": f"one\nsee `{path}`\n", "b.md": HARMLESS})
    assert [(v.path, v.line) for v in machine_paths(root)] == [("docs/a.md", 2)]


def test_saboteur_host_is_caught(tree: Tree) -> None:
    root = tree({"a.toml": "url = 'https://wheels.example.test/simple'"})
    assert named_hosts(root, {"wheels.example.test"})


def test_saboteur_lock_file_is_caught(tree: Tree) -> None:
    assert forbidden_files(tree({"sub/uv.lock": ""}))


def test_a_good_pin_passes(tree: Tree) -> None:
    assert not loose_pins(tree({"requirements/a.txt": PINNED}))


@pytest.mark.parametrize(
    "text",
    [
        "a==1.0\n",
        "a>=1.0 \\\n    --hash=sha256:" + "0" * 64 + "\n",
        "--index-url https://example.test/simple\n" + PINNED,
        "-e .\n",
        "./wheels/a.whl\n",
        "a @ file:///x/a.whl\n",
        PINNED.replace("via b", "via -r https://example.test"),
    ],
)
def test_saboteur_loose_pin_is_caught(text: str, tree: Tree) -> None:
    assert loose_pins(tree({"requirements/a.txt": text}))
