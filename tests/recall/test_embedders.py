"""The hashed embedder, and the cache in front of any."""

import sys
import threading
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.core.embedding import Embedder, EmbeddingKind, EmbeddingSpace
from holdfast.core.errors import Invalid, Unavailable
from holdfast.recall.cache import CachedEmbedder
from holdfast.recall.embedders import HashEmbedder

ANY_TEXT = st.text(st.characters(exclude_categories=()))
HASHED = HashEmbedder()


def similarity(one: str, other: str) -> float:
    left, right = HASHED.embed([one, other])
    return float(left @ right)


GOLDEN: dict[str, list[tuple[int, float]]] = {
    "cat": [
        (1, 0.25846248865127563),
        (8, -0.25846248865127563),
        (21, 0.25846248865127563),
        (40, 0.6322939991950989),
        (58, -0.6322939991950989),
    ],
    "": [(26, 0.7071067690849304), (46, -0.7071067690849304)],
    "the": [
        (2, -0.40824830532073975),
        (13, 0.40824830532073975),
        (39, 0.40824830532073975),
        (49, -0.40824830532073975),
        (59, 0.40824830532073975),
        (61, -0.40824830532073975),
    ],
    "Книги \ud800": [
        (0, 0.2236338108778),
        (9, -0.2236338108778),
        (11, -0.6324364542961121),
        (13, -0.2236338108778),
        (41, 0.6324364542961121),
        (54, -0.2236338108778),
    ],
    "東京": [
        (0, -0.18281149864196777),
        (5, 0.36510658264160156),
        (6, -0.25820833444595337),
        (14, 0.25820833444595337),
        (21, -0.36510658264160156),
        (27, 0.36510658264160156),
        (30, 0.36510658264160156),
        (31, 0.36510658264160156),
        (49, -0.36510658264160156),
        (56, -0.18281149864196777),
    ],
}


@pytest.mark.parametrize(("text", "golden"), list(GOLDEN.items()))
def test_vectors_are_the_same_on_every_machine(text: str, golden: list[tuple[int, float]]) -> None:
    vector = HashEmbedder(64).embed([text])[0]
    assert [(int(i), float(vector[i])) for i in np.flatnonzero(vector)] == golden


@given(st.lists(ANY_TEXT | st.sampled_from(["tea and cats " * 40, "the"]), max_size=3))
def test_vectors_are_the_same_bit_by_bit_without_numpy(texts: list[str]) -> None:
    made = HASHED.embed_packed(texts)
    assert [row.tobytes() for row in HASHED.embed(texts)] == made
    with pytest.MonkeyPatch.context() as patch:
        patch.delitem(sys.modules, "numpy")
        assert HashEmbedder().embed_packed(texts) == made


def test_the_space_names_width_and_analysis() -> None:
    assert HASHED.space.id == "hashed-terms@1.2/1024"
    assert HashEmbedder(32).space.width == 32
    assert isinstance(HASHED, Embedder)
    with pytest.raises(Invalid):
        HashEmbedder(0)


@given(st.lists(ANY_TEXT, max_size=5), st.sampled_from([8, 384]))
def test_every_text_has_a_finite_unit_vector(texts: list[str], width: int) -> None:
    vectors = HashEmbedder(width).embed(texts, "query")
    assert vectors.shape == (len(texts), width)
    assert vectors.dtype == np.float32
    assert np.isfinite(vectors).all()
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


@given(st.lists(ANY_TEXT, min_size=1, max_size=5))
def test_a_vector_does_not_depend_on_its_company(texts: list[str]) -> None:
    together = HASHED.embed(texts)
    assert all(
        (HASHED.embed([text])[0] == row).all() for text, row in zip(texts, together, strict=True)
    )


def test_shared_words_inflections_and_misspellings_are_near() -> None:
    base = "the database migration failed"
    assert similarity(base, "Migrations of databases fail") > 0.8
    assert similarity(base, "a databse migraton failed") > 0.4
    assert similarity(base, "grandmother baked bread") < 0.15


class Counting:
    """An embedder that remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[list[str], str]] = []
        self.down = False
        self.width = 16

    @property
    def space(self) -> EmbeddingSpace:
        return EmbeddingSpace("counting", "1", self.width)

    def embed(self, texts: Sequence[str], kind: EmbeddingKind = "document") -> np.ndarray:
        if self.down:
            raise Unavailable("down")
        self.asked.append((list(texts), kind))
        return HashEmbedder(self.width).embed(texts)


def test_a_wording_is_embedded_once_per_kind_and_space() -> None:
    model = Counting()
    cached = CachedEmbedder(model)
    cached.embed(["a  b", "a b\n", "A b"])
    cached.embed(["A b", "a b"])
    cached.embed(["a b"], "query")
    model.width = 8
    assert cached.embed(["a b"]).shape == (1, 8)
    assert model.asked == [
        (["a b", "A b"], "document"),
        (["a b"], "query"),
        (["a b"], "document"),
    ]
    assert (cached.hits, cached.misses) == (2, 4)


def test_the_least_recently_used_is_forgotten() -> None:
    model = Counting()
    cached = CachedEmbedder(model, size=2)
    for text in ("one", "two", "one", "three", "one", "two"):
        cached.embed([text])
    assert [texts for texts, _ in model.asked] == [["one"], ["two"], ["three"], ["two"]]


def test_more_texts_than_the_cache_holds_are_all_answered() -> None:
    texts = [f"text {i}" for i in range(9)]
    assert (CachedEmbedder(Counting(), size=2).embed(texts) == HashEmbedder(16).embed(texts)).all()


def test_callers_cannot_change_what_is_remembered() -> None:
    cached = CachedEmbedder(Counting())
    cached.embed(["one"])[:] = 0
    assert (cached.embed(["one"]) == HashEmbedder(16).embed(["one"])).all()


def test_a_failure_is_not_remembered() -> None:
    model = Counting()
    cached = CachedEmbedder(model)
    model.down = True
    with pytest.raises(Unavailable):
        cached.embed(["one"])
    model.down = False
    assert cached.embed(["one"]).shape == (1, 16)
    assert cached.embed([]).shape == (0, 16)


def test_threads_share_the_cache() -> None:
    cached = CachedEmbedder(HashEmbedder(16), size=5)
    expected = {f"text {i}": HashEmbedder(16).embed([f"text {i}"])[0] for i in range(20)}
    wrong: list[str] = []

    def work() -> None:
        texts = [*expected, *reversed(expected)]
        wrong.extend(t for t in texts if not (cached.embed([t])[0] == expected[t]).all())

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
