"""Every command says what it does."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Run, Shell, leaves


@pytest.mark.parametrize("words", leaves(), ids=" ".join)
def test_every_command_explains_itself(words: tuple[str, ...], shell: Shell) -> None:
    text = shell.ok(*words, "--help")
    usage, _, rest = text.partition("\n\n")
    assert usage.replace("\n", " ").startswith(f"Usage: holdfast {' '.join(words)} ")
    assert rest.strip()[0].isupper()
    assert "--json" in text
    assert "Options of every command" in text
    assert max(map(len, text.splitlines())) <= 100


@pytest.mark.parametrize("words", leaves(), ids=" ".join)
def test_every_command_refuses_an_unknown_option(words: tuple[str, ...], shell: Shell) -> None:
    assert "No such option" in shell.refused(2, *words, "--no-such-option")


def test_the_command_itself(run: Run) -> None:
    done = run("--help")
    assert done.returncode == 0
    assert "Exit status: 0 ok, 1 error, 2 usage, 3 not found, 4 conflict" in done.stdout
    for noun in ("audit", "conversation", "demo", "doctor", "kv", "memory", "task"):
        assert f"\n  {noun}" in done.stdout


def test_the_version(shell: Shell) -> None:
    assert shell.ok("--version").startswith("holdfast, version 0.")


@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
def test_completion_is_a_script(name: str, shell: Shell) -> None:
    script = shell.ok("completion", name)
    assert "_HOLDFAST_COMPLETE" in script
    assert f"{name}_complete" in script


def test_completion_completes(run: Run) -> None:
    env = {"_HOLDFAST_COMPLETE": "bash_complete", "COMP_WORDS": "holdfast mem", "COMP_CWORD": "1"}
    assert run(env=env).stdout.split() == ["plain,memory"]
