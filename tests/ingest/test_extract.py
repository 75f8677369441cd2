"""From bytes to text: what each kind gives, and what is refused with a reason."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pypdf import PdfReader, PdfWriter

from holdfast.core.errors import Invalid, Unsupported
from holdfast.core.values import check_text
from holdfast.ingest import KINDS, extract
from holdfast.ingest.html import html_text

FILES = Path(__file__).parent / "files"


def file(name: str) -> bytes:
    return (FILES / name).read_bytes()


def test_markdown_and_text_are_taken_as_they_are() -> None:
    text = "intro\n\n# The *real* title\n\nbody\n"
    found = extract("notes/a.MD", text.encode())
    assert (found.text, found.title, found.kind) == (text, "The *real* title", "markdown")
    assert extract("plain.txt", b"no heading").title == "plain"


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_byte_order_marks_are_believed(encoding: str) -> None:
    mark = "" if encoding in ("utf-8-sig", "utf-16") else "\ufeff"
    assert extract("a.txt", (mark + "naïve 猫").encode(encoding)).text == "naïve 猫"


def test_html_becomes_paragraphs_headings_and_lists() -> None:
    page = """<!doctype html><html><head><title> A  page </title><style>p {color: red}</style>
    <script>alert("no")</script></head><body><h1>Tea &amp; cake</h1><p>One
    line   of <b>text</b>.</p><ul><li>first<li>second</ul><pre>  kept
      as it is</pre><table><tr><td>a</td><td>b</td></tr></table><br>end</body></html>"""
    found = extract("a.html", page.encode())
    assert found.title == "A page"
    assert "# Tea & cake" in found.text.splitlines()
    assert "One line of text." in found.text.splitlines()
    assert "- first" in found.text.splitlines()
    assert "- second" in found.text.splitlines()
    assert "kept\n" in found.text
    assert "a b" in found.text
    assert "alert" not in found.text
    assert "red" not in found.text
    assert "\n\n\n" not in found.text


def test_html_that_is_broken_keeps_its_text() -> None:
    text, title = html_text("<p>one<div>two</p></b><h2>three<p>four &bogus; &#x110000; <a href='x")
    for word in ("one", "two", "## three", "four"):
        assert word in text
    assert title == ""


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ('<meta charset="iso-8859-1"><p>caf\xe9'.encode("latin-1"), "café"),
        ("<meta http-equiv=x content='text/html; charset=koi8-r'><p>мир".encode("koi8-r"), "мир"),
        ("<p>caf\xe9 \x93quoted\x94".encode("latin-1"), "café “quoted”"),
        ("<p>猫".encode(), "猫"),
        ('<meta charset="no-such"><p>猫'.encode(), "猫"),
        ("\ufeff<p>猫".encode("utf-16-le"), "猫"),
    ],
)
def test_html_is_read_in_the_encoding_that_it_names(data: bytes, text: str) -> None:
    assert extract("a.htm", data).text == text


def test_a_pdf_is_read_page_by_page() -> None:
    found = extract("lighthouse.pdf", file("lighthouse.pdf"))
    assert found.title == "The lighthouse of Skerry"
    assert found.metadata == {"pages": 2}
    assert "first lit in 1844" in found.text
    assert "never let the café burn down" in found.text
    assert found.text.index("1844") < found.text.index("clockwork")


def encrypted(password: str) -> bytes:
    writer = PdfWriter()
    writer.append(PdfReader(io.BytesIO(file("lighthouse.pdf"))))
    writer.encrypt(user_password=password, owner_password="owner", algorithm="RC4-128")
    target = io.BytesIO()
    writer.write(target)
    return target.getvalue()


def test_a_pdf_that_anybody_may_open_is_read_although_it_is_encrypted() -> None:
    assert "clockwork" in extract("a.pdf", encrypted("")).text


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("a.docx", b"PK", "known kind"),
        ("README", b"text", "known kind"),
        ("a.txt", b"", "with text"),
        ("a.md", b" \n\t", "with text"),
        ("a.html", b"<script>x</script>", "with text"),
        ("a.txt", b"caf\xe9", "UTF-8"),
        ("a.txt", b"a\x00b", "binary"),
        ("a.pdf", b"", "broken"),
        ("a.pdf", b"not a pdf at all", "broken"),
        ("a.pdf", file("lighthouse.pdf")[:700], "broken"),
        ("a.pdf", file("scan.pdf"), "scans"),
        ("a.pdf", encrypted("secret"), "encrypted"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_read_is_refused_with_the_reason(
    name: str, data: bytes, reason: str
) -> None:
    with pytest.raises(Invalid, match=reason) as refused:
        extract(name, data)
    assert refused.value.field == "file"


def test_without_the_extra_its_name_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pypdf", None)
    with pytest.raises(Unsupported, match=r"holdfast\[documents\]"):
        extract("a.pdf", file("lighthouse.pdf"))


@given(data=st.binary(max_size=300), suffix=st.sampled_from([k for k in KINDS if k != ".pdf"]))
@example(data=b"<p>\xed\xa0\x80 &#0; &#xd800;", suffix=".html")
def test_whatever_the_bytes_are_the_text_can_be_stored_or_is_refused(
    data: bytes, suffix: str
) -> None:
    try:
        found = extract(f"a{suffix}", data)
    except Invalid:
        return
    assert check_text("text", found.text) == found.text
    assert check_text("title", found.title) == found.title


MARKUP = ["<", "</", ">", "p", "pre", "li", "h1", "title", "script", "&", " ", "\n"]


@given(page=st.lists(st.sampled_from(MARKUP)).map("".join))
def test_no_markup_makes_the_reader_fail(page: str) -> None:
    text, title = html_text(page)
    assert "\n\n\n" not in text
    assert "\n" not in title
