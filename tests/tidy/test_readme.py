"""What the README and the pages show is run, as shown, without network or key."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tidy.blocks import commands, run, runnable
from tests.tidy.conftest import Tree
from tests.tidy.source import REPOSITORY

PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(REPOSITORY).as_posix())
def test_page_runs(page: Path, tmp_path: Path) -> None:
    done = run(page, tmp_path)
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"


def test_the_readme_shows_python_and_commands() -> None:
    kinds = {block.kind for block in runnable(PAGES[0].read_text(encoding="utf-8"))}
    assert kinds == {"python", "console"}


def page(tree: Tree, text: str) -> Path:
    return tree({"page.md": text.replace("~~~", "```")}) / "page.md"


def test_blocks_share_a_folder_and_names_in_order(tree: Tree, tmp_path: Path) -> None:
    text = "~~~python\nx = 'a.txt'\n~~~\nand\n\n~~~python\nopen(x, 'w').write('1')\n~~~\n"
    done = run(page(tree, text), tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "page" / "a.txt").read_text() == "1"


def test_saboteur_failing_python_is_caught_with_its_line(tree: Tree, tmp_path: Path) -> None:
    done = run(page(tree, "one\n\n~~~python\nx = 1\nassert x == 2\n~~~\n"), tmp_path)
    assert done.returncode != 0
    assert 'File "page.md", line 5' in done.stderr


def test_saboteur_failing_command_is_caught(tree: Tree, tmp_path: Path) -> None:
    done = run(page(tree, "~~~console\n$ holdfast no-such-command\nfine\n~~~\n"), tmp_path)
    assert done.returncode == 1
    assert "page.md:2: exit" in done.stderr


CONNECT = "import socket; socket.create_connection(('192.0.2.1', 80), 2)"


@pytest.mark.parametrize(
    "code",
    [
        CONNECT,
        "import socket; socket.getaddrinfo('example.org', 80)",
        "import socket; socket.socket(2, 2).sendto(b'x', ('192.0.2.1', 9))",
        f"import subprocess, sys; subprocess.run([sys.executable, '-c', {CONNECT!r}], check=True)",
    ],
)
def test_saboteur_use_of_the_network_is_caught(code: str, tree: Tree, tmp_path: Path) -> None:
    done = run(page(tree, f"~~~python\n{code}\n~~~\n"), tmp_path)
    assert done.returncode != 0
    assert "the network is cut" in done.stderr


def test_this_machine_itself_can_be_reached(tree: Tree, tmp_path: Path) -> None:
    code = "import socket\ns = socket.create_server(('127.0.0.1', 0))\n"
    code += "socket.create_connection(s.getsockname(), 2).close()\ns.close()"
    done = run(page(tree, f"~~~python\n{code}\n~~~\n"), tmp_path)
    assert done.returncode == 0, done.stderr


def test_a_page_may_declare_types(tree: Tree, tmp_path: Path) -> None:
    code = "import dataclasses, typing\n@dataclasses.dataclass\nclass A:\n    x: 'B'\n"
    code += "class B: ...\nassert typing.get_type_hints(A) == {'x': B}"
    done = run(page(tree, f"~~~python\n{code}\n~~~\n"), tmp_path)
    assert done.returncode == 0, done.stderr


def test_a_sketch_and_other_languages_are_not_run() -> None:
    text = "```python sketch\n1/0\n```\n```toml\nx = 1\n```\n```\nplain\n```\n"
    assert not runnable(text)


def test_saboteur_block_without_an_end_is_caught() -> None:
    with pytest.raises(ValueError, match="line 3"):
        runnable("one\n\n```python\nx = 1\n")


def test_commands_are_those_after_a_prompt() -> None:
    text = "$ make test\nok\n$ holdfast add \\\n    'x'\nadded\n$ holdfast\n$ holdfastly"
    assert list(commands(text)) == [(3, "holdfast add \\\n    'x'"), (6, "holdfast")]
