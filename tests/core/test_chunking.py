"""Chunking as arithmetic: what holds for every text."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.core.chunking import SIZE_LEAST, check_sizes, chunk_spans
from holdfast.core.errors import Invalid

SIZES = st.integers(SIZE_LEAST, 80).flatmap(
    lambda size: st.tuples(st.just(size), st.integers(0, size // 2))
)
PIECES = st.sampled_from(
    [
        "word",
        " ",
        "\n",
        "\n\n",
        "\r\n",
        ". ",
        "# Head\n",
        "é",
        "e\u0301",
        "猫。",
        "👩\u200d🚀",
        "\t",
    ]
)
TEXTS = st.one_of(st.text(max_size=400), st.lists(PIECES, max_size=200).map("".join))


@given(text=TEXTS, sizes=SIZES)
def test_e2_stretches_hold_all_of_the_text_and_keep_to_their_sizes(
    text: str, sizes: tuple[int, int]
) -> None:
    size, overlap = sizes
    spans = chunk_spans(text, size, overlap)
    assert [bool(spans), spans[0].start if spans else 0] == [bool(text), 0]
    assert (spans[-1].end if spans else 0) == len(text)
    for span in spans:
        assert 0 < span.end - span.start <= size
    for one, other in itertools.pairwise(spans):
        assert one.start < other.start <= one.end < other.end
        assert one.end - other.start <= overlap
    # Each brings a share of new text: the work is linear in the text.
    assert len(spans) <= len(text) // (size // 4) + 1
    assert chunk_spans(text, size, overlap) == spans


@given(text=st.text(alphabet="ab \n.", max_size=300), sizes=SIZES)
def test_e2_text_put_behind_moves_the_last_boundaries_only(
    text: str, sizes: tuple[int, int]
) -> None:
    before = chunk_spans(text, *sizes)
    after = chunk_spans(text + "\n\nA later paragraph.", *sizes)
    kept = max(0, len(before) - 2)
    assert after[:kept] == before[:kept]


def cut(text: str, size: int, overlap: int = 0) -> list[str]:
    return [text[start:end] for start, end in chunk_spans(text, size, overlap)]


def test_e2_cuts_are_where_a_reader_would_cut() -> None:
    text = "A first line here.\nA second.\n\nNext part of it.\n# Head\nBelow it there is more text."
    assert cut(text, 40) == [
        "A first line here.\nA second.\n\n",
        "Next part of it.\n",
        "# Head\nBelow it there is more text.",
    ]
    assert cut("One thing. Another thing! A third one is here", 30) == [
        "One thing. Another thing! ",
        "A third one is here",
    ]
    assert cut("several words without any stop at all", 20) == [
        "several words ",
        "without any stop at ",
        "all",
    ]


def test_e2_overlap_begins_at_a_word_and_a_heading_shares_nothing() -> None:
    assert cut("several words without any stop at all in it", 24, 8) == [
        "several words without ",
        "without any stop at all ",
        "at all in it",
    ]
    assert cut("text before it, some more of it\n# Head\nbelow", 40, 16)[1] == "# Head\nbelow"


def test_e2_no_character_is_parted_from_its_marks() -> None:
    assert cut("e\u0301" * 20, 17) == ["e\u0301" * 8, "e\u0301" * 8, "e\u0301" * 4]
    assert cut("👩\u200d🚀" * 10, 16)[0] == "👩\u200d🚀" * 5
    # A mountain of marks is cut all the same, rather than exceed the size.
    assert [len(part) for part in cut("e" + "\u0301" * 100, 40)] == [40, 40, 21]


def test_e2_the_defaults_are_500_and_64() -> None:
    spans = chunk_spans("x" * 1_000)
    assert [tuple(span) for span in spans] == [(0, 500), (436, 936), (872, 1_000)]
    assert chunk_spans("") == []
    assert [tuple(span) for span in chunk_spans("x" * 500)] == [(0, 500)]


@pytest.mark.parametrize(
    ("size", "overlap"),
    [(15, 0), (500, 251), (True, 0), ("500", 0), (500, -1), (500, 6.5), (10**9, 0)],
)
def test_e2_senseless_sizes_are_refused(size: object, overlap: object) -> None:
    with pytest.raises(Invalid):
        check_sizes(size, overlap)
