"""The text of a PDF, page by page, by pypdf: the extra `documents`."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from holdfast.core.errors import Invalid
from holdfast.core.extras import lacking

if TYPE_CHECKING:
    from pypdf import PdfReader


def pdf_text(data: bytes) -> tuple[str, str, int]:
    """The text, the title and the number of pages.

    Invalid for a file that is broken, needs a password, or holds pictures of text only;
    Unsupported without the extra.
    """
    try:
        from pypdf import PdfReader
    except ImportError:
        raise lacking("PDF files are read by pypdf, which is not installed.", "documents") from None
    try:
        reader = PdfReader(io.BytesIO(data))
        if reader.is_encrypted and not reader.decrypt(""):
            raise _unreadable("a PDF without a password", "an encrypted one")
        pages = [page.extract_text().strip() for page in reader.pages]
        title = _title(reader)
    except Invalid:
        raise
    except Exception as error:
        # A broken file makes the reader raise whatever it stumbles over.
        raise _unreadable("a whole PDF", f"a broken one ({type(error).__name__})") from error
    text = "\n\n".join(page for page in pages if page)
    if not text:
        raise _unreadable("a PDF whose pages have text", f"{len(pages)} without any, such as scans")
    return text, title, len(pages)


def _title(reader: PdfReader) -> str:
    title = reader.metadata.title if reader.metadata is not None else None
    return title if isinstance(title, str) else ""


def _unreadable(expected: str, got: str) -> Invalid:
    return Invalid("file", expected=expected, got=got)
