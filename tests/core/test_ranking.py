"""BM25 and cosine as arithmetic."""

from math import isclose, log

import numpy as np
import pytest

from holdfast.core.ranking import bm25, cosine_scores, idf


def test_bm25_is_the_documented_formula() -> None:
    expected = log(1 + (10 - 2 + 0.5) / 2.5) * 3 * 1.9 / (3 + 0.9 * (0.25 + 0.75 * 8 / 4))
    assert isclose(bm25(3, 2, 10, 8, 4), expected)


def test_rarer_terms_and_shorter_documents_score_higher() -> None:
    assert bm25(1, 1, 10, 5, 5) > bm25(1, 9, 10, 5, 5) > 0
    assert bm25(1, 1, 10, 2, 5) > bm25(1, 1, 10, 20, 5)
    assert bm25(2, 1, 10, 5, 5) > bm25(1, 1, 10, 5, 5)


def test_absent_terms_and_empty_scopes_score_nothing() -> None:
    assert bm25(0, 0, 10, 5, 5) == 0
    assert bm25(1, 1, 1, 0, 0) == 0
    assert idf(10, 10) > 0


def test_cosine_ignores_length_at_any_magnitude() -> None:
    matrix = np.array([[3, 0], [0, 1e-30], [-1e30, 0], [1, 1]], np.float32)
    scores = cosine_scores(matrix, np.array([2e25, 0], np.float32))
    assert np.allclose(scores, [1, 0, -1, 0.5**0.5])


def test_a_zero_vector_never_matches() -> None:
    scores = cosine_scores([[0, 0], [1, 0]], [1, 0])
    assert scores[0] == -np.inf
    assert scores[1] == 1
    assert (cosine_scores([[0, 0], [1, 0]], [0, 0]) == -np.inf).all()


def test_no_rows_give_no_scores() -> None:
    assert cosine_scores(np.zeros((0, 4), np.float32), np.ones(4)).shape == (0,)


def test_widths_are_never_mixed() -> None:
    with pytest.raises(ValueError, match="width"):
        cosine_scores([[1, 0, 0]], [1, 0])
