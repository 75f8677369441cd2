"""The text of an HTML page, with headings as Markdown has them, so that it is cut at them."""

from __future__ import annotations

import codecs
import re
from html.parser import HTMLParser
from typing import Final

_SILENT: Final = frozenset({"script", "style", "template", "svg"})
_BLOCK_NAMES: Final = (
    "address article aside blockquote body caption dd details dialog div dl dt fieldset figcaption"
    " figure footer form header hr html legend main nav ol p pre section summary table tbody tfoot"
    " thead ul"
)
_BLOCKS: Final = frozenset(_BLOCK_NAMES.split())
_LINES: Final = frozenset({"br", "tr", "option"})
_HEADINGS: Final = {f"h{n}": "#" * n for n in range(1, 7)}
_CHARSET: Final = re.compile(
    rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?\s*([\w.:-]{1,40})", re.IGNORECASE
)
_BLANK_LINES: Final = re.compile(r"\n{3,}")


def html_encoding(data: bytes) -> str:
    """The encoding that the page names in its beginning; else UTF-8, else Windows-1252."""
    named = _CHARSET.search(data[:4096])
    if named is not None:
        try:
            return codecs.lookup(named[1].decode("ascii")).name
        except (LookupError, UnicodeDecodeError):
            pass
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return "cp1252"
    return "utf-8"


def html_text(page: str) -> tuple[str, str]:
    """The page's text and its title, however broken its markup is."""
    reader = _Reader()
    reader.feed(page)
    reader.close()
    return reader.text(), " ".join("".join(reader.title).split())


class _Reader(HTMLParser):
    """Gathers text; blocks become paragraphs, list items lines with a dash."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.title: list[str] = []
        self._parts: list[str] = []
        self._silent = 0
        self._kept = 0
        self._in_title = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _SILENT:
            self._silent += 1
        elif tag == "title":
            self._in_title = not self._silent
        elif tag in _HEADINGS:
            self._parts.append(f"\n\n{_HEADINGS[tag]} ")
        elif tag == "li":
            self._parts.append("\n- ")
        elif tag in ("td", "th"):
            self._parts.append(" ")
        elif tag in _LINES:
            self._parts.append("\n")
        elif tag in _BLOCKS:
            self._parts.append("\n\n")
        self._kept += tag == "pre"

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in _SILENT and tag != "title":
            self.handle_starttag(tag, attrs)
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in _SILENT:
            self._silent = max(0, self._silent - 1)
        elif tag == "title":
            self._in_title = False
        elif tag in _HEADINGS or tag in _BLOCKS:
            self._parts.append("\n\n")
        if tag == "pre":
            self._kept = max(0, self._kept - 1)

    def handle_data(self, data: str) -> None:
        if self._in_title:
            self.title.append(data)
        elif not self._silent:
            self._parts.append(data if self._kept else _inline(data))

    def text(self) -> str:
        """What was gathered, with at most one blank line between its lines."""
        lines = (line.strip(" \t") for line in "".join(self._parts).split("\n"))
        return _BLANK_LINES.sub("\n\n", "\n".join(lines)).strip("\n")


def _inline(data: str) -> str:
    """Runs of spaces and line ends as one space, as a browser shows them."""
    words = " ".join(data.split())
    if not words:
        return " " if data else ""
    before = " " if data[0].isspace() else ""
    return f"{before}{words}{' ' if data[-1].isspace() else ''}"
