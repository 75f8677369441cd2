"""From an error to what the user reads, and to the exit status."""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final

import click

from holdfast.core.errors import HoldfastError, StorageFull

INTERRUPTED: Final = 130
"""What a shell reports for a command that Ctrl-C ended."""
PIPE_CLOSED: Final = 128 + (signal.SIGPIPE.value if hasattr(signal, "SIGPIPE") else 13)
"""What a shell reports for a command whose reader went away, as with `| head`."""
FAILED: Final = 1
USAGE: Final = "usage"
"""The code of an error in the words of a command; it has the exit status of a refused value."""


class PipeClosed(Exception):
    """Whoever read the answer went away. No OSError, which click would end by itself."""


def guarded(run: Callable[[], Any], *, as_json: bool = False) -> int:
    """Run the command; the exit status. Errors become text on stderr, never a traceback."""
    try:
        status = run()
        if sys.stdout is not None:
            sys.stdout.flush()
        return status if isinstance(status, int) else 0
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.Abort:
        click.echo("Interrupted.", err=True)
        return INTERRUPTED
    except KeyboardInterrupt:
        click.echo("Interrupted.", err=True)
        return INTERRUPTED
    except click.ClickException as error:
        if as_json:
            _print_object(USAGE, _message(error), _way_out(error))
        else:
            error.show()
        return error.exit_code
    except HoldfastError as error:
        show(error, as_json=as_json)
        return error.exit_status
    except (BrokenPipeError, PipeClosed):
        # Nobody reads on; the interpreter must not complain when it flushes at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED
    except OSError as error:
        if error.errno == errno.ENOSPC:
            show(StorageFull("The disk is full.", hint="Free some space."), as_json=as_json)
            return StorageFull.exit_status
        if as_json:
            _print_object(HoldfastError.code, _told(error), "")
        else:
            click.echo(f"error: {_told(error)}", err=True)
        return FAILED


def show(error: HoldfastError, *, as_json: bool) -> None:
    """Print an error on stderr: as text for a person, or as an object."""
    if as_json:
        _print_object(error.code, error.message, error.hint, retryable=error.retryable)
        return
    click.echo(f"error: {error.message}", err=True)
    if error.hint:
        click.echo(f"hint: {error.hint}", err=True)


def _print_object(code: str, message: str, hint: str, *, retryable: bool = False) -> None:
    told = {"code": code, "message": message, "hint": hint, "retryable": retryable}
    click.echo(json.dumps({"error": told}), err=True)


def _message(error: click.ClickException) -> str:
    """What is wrong with the words of the command; click gives the whole help where they end."""
    if type(error).__name__ == "NoArgsIsHelpError":  # which click has from 8.2 on
        return "Missing command."
    return error.format_message()


def _way_out(error: click.ClickException) -> str:
    """Where it says how the command is used."""
    context = error.ctx if isinstance(error, click.UsageError) else None
    return "" if context is None else f"See: {context.command_path} --help."


def json_asked(arguments: Sequence[str]) -> bool:
    """Whether the arguments ask for JSON; also where they could not be parsed."""
    options = list(arguments)
    if "--" in options:
        options = options[: options.index("--")]
    return "--json" in options or "--jsonl" in options


def _told(error: OSError) -> str:
    reason = error.strerror or type(error).__name__
    return f"{error.filename}: {reason}" if isinstance(error.filename, str) else reason
