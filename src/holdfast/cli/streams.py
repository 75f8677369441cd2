"""Writing to a terminal or a pipe whose encoding lacks what is to be said."""

from __future__ import annotations

import codecs
import io
import sys
from typing import Final

ESCAPING: Final = "holdfast-escape"
"""How such characters are written: as JSON does, so that a JSON answer stays one."""


def escape_what_is_lacking() -> None:
    """Let stdout and stderr take every text, whatever the locale says."""
    codecs.register_error(ESCAPING, _escaped)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors != "backslashreplace":
            stream.reconfigure(errors=ESCAPING)


def _escaped(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass")
    pairs = zip(units[::2], units[1::2], strict=True)
    return "".join(f"\\u{high:02x}{low:02x}" for high, low in pairs), error.end
