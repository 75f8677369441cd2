"""From a file's bytes to its text. What cannot be read is refused with a reason, never guessed."""

from __future__ import annotations

import codecs
from collections.abc import Callable
from pathlib import PurePath
from typing import Any, Final

import msgspec

from holdfast.core.errors import Invalid
from holdfast.ingest.html import html_encoding, html_text
from holdfast.ingest.pdf import pdf_text

EXTRACTION_VERSION: Final = 1
"""Rises whenever the same bytes would give another text, so that files are read again."""
TITLE_LIMIT: Final = 300

_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


class Extracted(msgspec.Struct, frozen=True, kw_only=True):
    """A file's text, and what it says of itself."""

    text: str
    title: str
    kind: str
    """"markdown", "text", "html" or "pdf"."""
    metadata: dict[str, Any] = {}


def extract(name: str, data: bytes) -> Extracted:
    """The text of a file whose name tells its kind.

    Raises Invalid with the reason for what holds no text that can be read, and Unsupported naming
    the extra that is missing.
    """
    kind = KINDS.get(PurePath(name).suffix.lower())
    if kind is None:
        raise _unreadable(f"a file of a known kind: {', '.join(sorted(KINDS))}", "another kind")
    text, title, metadata = _READERS[kind](data)
    if not text or text.isspace():
        raise _unreadable("a file with text", "none")
    title = " ".join((title or PurePath(name).stem).split())
    return Extracted(text=text, title=title[:TITLE_LIMIT], kind=kind, metadata=metadata)


def _plain(data: bytes) -> tuple[str, str, dict[str, Any]]:
    return _decoded(data), "", {}


def _markdown(data: bytes) -> tuple[str, str, dict[str, Any]]:
    text = _decoded(data)
    heading = next((line for line in text.splitlines() if line.startswith("# ")), "")
    return text, heading.removeprefix("# ").strip(), {}


def _html(data: bytes) -> tuple[str, str, dict[str, Any]]:
    marked = any(data.startswith(mark) for mark, _ in _MARKS)
    if marked:
        text, title = html_text(_decoded(data))
    else:
        text, title = html_text(data.decode(html_encoding(data), "replace"))
    return _storable(text), _storable(title), {}


def _pdf(data: bytes) -> tuple[str, str, dict[str, Any]]:
    text, title, pages = pdf_text(data)
    return _storable(text), _storable(title), {"pages": pages}


def _decoded(data: bytes) -> str:
    """UTF-8, or what a byte order mark says."""
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            data, found = data[len(mark) :], encoding
            break
    else:
        found = "utf-8"
    try:
        text = data.decode(found)
    except UnicodeDecodeError:
        raise _unreadable("text in UTF-8", "other bytes") from None
    if "\x00" in text:
        raise _unreadable("text", "binary data")
    return text


def _storable(text: str) -> str:
    """The text with what no store could keep as the mark of a lost character."""
    whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return whole.replace("\x00", "\ufffd")


def _unreadable(expected: str, got: str) -> Invalid:
    return Invalid("file", expected=expected, got=got)


KINDS: Final[dict[str, str]] = {
    ".md": "markdown",
    ".markdown": "markdown",
    ".txt": "text",
    ".text": "text",
    ".rst": "text",
    ".html": "html",
    ".htm": "html",
    ".xhtml": "html",
    ".pdf": "pdf",
}
"""Suffix -> kind."""
_READERS: Final[dict[str, Callable[[bytes], tuple[str, str, dict[str, Any]]]]] = {
    "markdown": _markdown,
    "text": _plain,
    "html": _html,
    "pdf": _pdf,
}
