"""The command as a process: pipes, terminals, signals, closed streams."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import COMMAND, Run, Shell, environment

HOSTILE = "red \x1b[31malert\x07 \u202eright\tto\nleft \u200b 👩\u200d💻"


def test_an_id_goes_through_a_pipe(run: Run) -> None:
    made = run("remember", "Ada drinks tea", "-q")
    assert made.returncode == 0
    got = run("memory", "get", made.stdout.strip(), "--json")
    assert json.loads(got.stdout)["content"] == "Ada drinks tea"


def test_text_comes_through_standard_input(run: Run) -> None:
    assert run("kv", "set", "a", "-", stdin="žluť\r\n").returncode == 0
    assert run("kv", "get", "a").stdout == "žluť\n"


def test_a_line_of_a_pipe_is_one_record_whatever_it_holds(run: Run) -> None:
    for name, value in (("a", HOSTILE), ("b", "\\t")):
        assert run("kv", "set", name, "-", stdin=value).returncode == 0
    lines = run("kv", "list").stdout.splitlines()
    assert [len(line.split("\t")) for line in lines] == [5, 5]
    assert lines[0].split("\t")[1] == (
        r"red \x1b[31malert\x07 \u202eright\tto\nleft \u200b 👩" + "\u200d💻"
    )
    assert lines[1].split("\t")[1] == r"\\t"


def test_what_the_encoding_lacks_is_escaped_and_stays_json(run: Run) -> None:
    said = "žluť 漢 👩\u200d💻"
    assert run("remember", "-", stdin=said).returncode == 0
    latin = {"PYTHONIOENCODING": "latin-1"}
    shown = run("memory", "list", "--json", env=latin)
    assert json.loads(shown.stdout)["items"][0]["content"] == said
    listed = run("memory", "list", env=latin)
    assert r"\u6f22 \ud83d\udc69" in listed.stdout
    assert (shown.returncode, listed.returncode) == (0, 0)


def test_the_environment_names_the_store_and_the_scope(run: Run, tmp_path: Path) -> None:
    env = {"HOLDFAST_STORE": "other.db", "HOLDFAST_TENANT": "t", "HOLDFAST_USER": "u"}
    made = run("remember", "x", "--json", env=env)
    assert json.loads(made.stdout)["user"] == "u"
    assert (tmp_path / "other.db").exists()
    assert run("memory", "list", "-q", "--store", "other.db").stdout == ""
    assert len(run("memory", "list", "-q", env={**env, "HOLDFAST_USER": "v"}).stdout) == 0
    both = run("memory", "list", "-q", "--user", "u", env={**env, "HOLDFAST_USER": "v"})
    assert both.stdout.strip() == json.loads(made.stdout)["id"]


def test_a_table_is_drawn_on_a_terminal_of_any_encoding(run: Run, tmp_path: Path) -> None:
    assert run("remember", "žluť 漢").returncode == 0
    store = str(tmp_path / "agent.db")
    shown = screen("memory", "list", "--store", store, PYTHONIOENCODING="ascii")
    assert r"\u017elu\u0165 \u6f22" in shown
    assert "Traceback" not in shown


def test_a_url_names_a_file_too(run: Run, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'by-url.db'}"
    assert run("--store", url, "kv", "set", "a", "1").returncode == 0
    assert (tmp_path / "by-url.db").exists()
    assert run("--store", f"sqlite:///{tmp_path / 'no.db'}", "kv", "get", "a").returncode == 3


def test_a_reader_that_goes_away_is_no_error(shell: Shell) -> None:
    for number in range(40):
        shell.ok("kv", "set", f"k{number}", "v" * 4_000)
    with subprocess.Popen(
        [*COMMAND, "--store", shell.store, "kv", "list", "--all", "--jsonl"],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as writer:
        assert writer.stdout is not None
        assert writer.stderr is not None
        assert writer.stdout.readline().startswith(b'{"key":"k0"')
        writer.stdout.close()
        assert writer.stderr.read() == b""
    assert writer.returncode == 141


def test_a_closed_standard_output_is_no_traceback(shell: Shell) -> None:
    shell.ok("kv", "set", "a", "1")
    script = f'"$@" --store {shell.store} kv get a >&-'
    done = subprocess.run(
        ["sh", "-c", script, "sh", *COMMAND], env=environment(), capture_output=True, check=False
    )
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("args", [("remember", "-"), ("kv", "set", "k", "-"), ("import", "-")])
def test_a_closed_standard_input_is_refused(args: tuple[str, ...], tmp_path: Path) -> None:
    done = subprocess.run(
        ["sh", "-c", '"$@" <&-', "sh", *COMMAND, *args],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "standard input, got a closed one" in done.stderr


@pytest.fixture
def heeded_interrupts() -> Iterator[None]:
    """A run in the background of a shell ignores interrupts, and so would what it starts."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heeded_interrupts")
def test_ctrl_c_ends_it_with_130(tmp_path: Path) -> None:
    with subprocess.Popen(
        [*COMMAND, "remember", "-"],
        cwd=tmp_path,
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as waiting:
        _wait_until_it_reads(waiting.pid)
        waiting.send_signal(signal.SIGINT)
        _, told = waiting.communicate(timeout=60)
    assert (waiting.returncode, told.strip()) == (130, b"Interrupted.")


def test_a_terminal_gets_a_table_and_no_escape_from_stored_text(shell: Shell) -> None:
    shell.ok("remember", "-", "--speaker", "Ada", stdin=HOSTILE)
    shown = screen("--store", shell.store, "memory", "list")
    assert "content" in shown
    assert "\\x1b[31malert\\x07" in shown
    assert "\x1b[31malert" not in shown
    assert "\x07" not in shown
    assert "\u202e" not in shown
    recalled = screen("--store", shell.store, "recall", "left")
    assert "████████" in recalled
    assert "text+vector" in recalled
    assert "\x1b[31malert" not in recalled


@pytest.mark.parametrize(
    "args",
    [
        ("memory", "list"),
        ("recall", "tea", "--explain"),
        ("conversation", "list"),
        ("conversation", "messages", "k"),
        ("kv", "list"),
        ("task", "list"),
        ("audit", "list"),
        ("memory", "stats"),
    ],
    ids=" ".join,
)
def test_a_screen_of_80_columns_is_enough(args: tuple[str, ...], shell: Shell) -> None:
    shell.ok("remember", "Ada drinks tea " * 20, "--speaker", "Ada", "--session", "s" * 60)
    shell.ok("conversation", "create", "--key", "k", "--title", "A title " * 12)
    shell.ok("conversation", "append", "k", "word " * 60)
    shell.ok("kv", "set", "k" * 60, "value " * 40)
    shell.ok("task", "add", "A title " * 12)
    shell.ok("audit", "append", "action", "--data", json.dumps({"n": list(range(60))}))
    lines = screen("--store", shell.store, *args).splitlines()
    assert len(lines) >= 2
    if "--explain" not in args:
        assert max(map(len, lines)) <= 80


def test_nothing_found_is_said_beside_the_data(shell: Shell) -> None:
    shell.ok("kv", "set", "a", "1")
    assert "Nothing found." in screen("--store", shell.store, "memory", "list")
    assert shell.ok("memory", "list") == ""


def test_long_work_shows_how_far_it_is(shell: Shell, tmp_path: Path) -> None:
    for number in range(30):
        shell.ok("kv", "set", f"k{number}", "v" * 4_000)
        shell.ok("remember", f"thing number {number}")
    lines = str(tmp_path / "all.jsonl")
    for title, args in (
        ("export", ("--store", shell.store, "export", lines)),
        ("import", ("--store", str(tmp_path / "copy.db"), "import", lines)),
        ("backup", ("--store", shell.store, "backup", str(tmp_path / "saved.db"))),
        ("restore", ("restore", str(tmp_path / "saved.db"), str(tmp_path / "again.db"))),
    ):
        assert f"{title} " in screen(*args)
    assert (tmp_path / "again.db").exists()


@pytest.mark.parametrize(("said", "left"), [("y", 0), ("n", 1)])
def test_what_destroys_asks_a_person(said: str, left: int, shell: Shell) -> None:
    shell.ok("kv", "set", "a", "1")
    shown = screen("--store", shell.store, "kv", "delete", "a", typed=f"{said}\n")
    assert "This will delete the key 'a'. Go on? [y/N]" in shown
    assert ("Nothing was changed." in shown) == bool(left)
    assert len(shell.json("kv", "list")["items"]) == left


def screen(*args: str, typed: str = "", **env: str) -> str:
    """What a person sees on a terminal of 80 columns, without colours."""
    env = environment(TERM="xterm", NO_COLOR="1", **env)
    here, there = pty.openpty()
    with subprocess.Popen(
        [*COMMAND, *args], env=env, stdin=there, stdout=there, stderr=there, close_fds=True
    ) as process:
        os.close(there)
        os.write(here, typed.encode())
        shown = bytearray()
        while True:
            ready, _, _ = select.select([here], [], [], 60)
            assert ready, "it says nothing"
            with contextlib.suppress(OSError):
                piece = os.read(here, 65_536)
                if piece:
                    shown += piece
                    continue
            break
        process.wait(60)
    os.close(here)
    text = shown.decode()
    for code in ("\x1b[1m", "\x1b[0m", "\x1b[3m", "\x1b[2m"):
        text = text.replace(code, "")
    return text.replace("\r\n", "\n")


def _wait_until_it_reads(pid: int) -> None:
    """Until the process sleeps in a read of its standard input."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            call = Path(f"/proc/{pid}/syscall").read_text().split()
            if call[:2] == ["0", "0x0"]:
                return
        time.sleep(0.02)
    raise AssertionError("it never read")
