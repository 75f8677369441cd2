"""The ranking functions every engine must agree with: BM25 and cosine, as plain arithmetic."""

from math import log
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["BM25_B", "BM25_K1", "bm25", "cosine_scores", "exact_cosines", "idf"]

BM25_K1: Final = 0.9
"""Saturation of term frequency; .9 was the best of .6-1.8 on conversations (Lucene's is 1.2)."""

BM25_B: Final = 0.75
"""Share of length normalisation, the value of Robertson et al. (TREC-3)."""


def idf(df: int, doc_count: int) -> float:
    """Return the weight of a term that `df` of `doc_count` documents contain.

    `ln(1 + (N - df + .5) / (df + .5))`: the inner 1 keeps it above zero for frequent terms.
    """
    return log(1.0 + (doc_count - df + 0.5) / (df + 0.5))


def bm25(
    tf: float,
    df: int,
    doc_count: int,
    length: float,
    mean_length: float,
    k1: float = BM25_K1,
    b: float = BM25_B,
) -> float:
    """Return what one query term adds to a document's score; a score is the sum over its terms.

    `idf * tf * (k1 + 1) / (tf + k1 * (1 - b + b * length / mean_length))`

    `tf` is the term's count in the document, `df` the number of documents with the term,
    `doc_count` the number of documents of the scope, `length` the document's number of terms and
    `mean_length` its mean over the scope. A term repeated in the query counts once. 0 when the
    term does not occur.
    """
    if tf <= 0 or mean_length <= 0:
        return 0.0
    norm = k1 * (1.0 - b + b * length / mean_length)
    return idf(df, doc_count) * tf * (k1 + 1.0) / (tf + norm)


def cosine_scores(matrix: Any, query: Any) -> "NDArray[np.float32]":
    """Return the cosine of each row of `matrix` [n, width] with `query` [width], in [-1, 1].

    Rows and query need not be normalised. The score is 1 - cosine distance. A zero vector has no
    direction and never matches: its score is -inf. Raises `ValueError` when the widths differ.
    """
    import numpy as np

    rows = np.asarray(matrix, dtype=np.float32)
    wanted = np.asarray(query, dtype=np.float32)
    if rows.ndim != 2 or wanted.ndim != 1 or rows.shape[1] != wanted.shape[0]:
        raise ValueError(f"matrix {rows.shape} and query {wanted.shape} are not of one width")
    # Scaling by the largest magnitude first keeps squares of tiny or huge values finite.
    rows_scale = np.abs(rows).max(axis=1, initial=0.0)
    query_scale = float(np.abs(wanted).max(initial=0.0))
    scores = np.full(rows.shape[0], -np.inf, dtype=np.float32)
    if query_scale == 0.0:
        return scores
    live = rows_scale > 0.0
    found: slice | NDArray[np.bool]
    if live.all() and rows_scale.min(initial=1.0) > 1e-15 and rows_scale.max(initial=1.0) < 1e15:
        scaled, found = rows, slice(None)
    else:
        scaled, found = rows[live] / rows_scale[live, None], live
    wanted = wanted / np.float32(query_scale)
    norms = np.sqrt(np.einsum("ij,ij->i", scaled, scaled)) * np.sqrt(wanted @ wanted)
    # einsum adds each row alike; a BLAS product may not, and equal vectors must tie exactly.
    products = np.einsum("ij,j->i", scaled, wanted)
    scores[found] = np.clip(products / norms, -1.0, 1.0)
    return scores


def exact_cosines(matrix: Any, query: Any) -> "NDArray[np.float64]":
    """Return the cosines in double precision, each row's independent of the rows around it.

    Equal rows get equal scores wherever they stand, which a blocked matrix product does not
    promise; ties then break by key alike on every engine. For the final candidates of a search.
    """
    import numpy as np

    rows = np.asarray(matrix, dtype=np.float64)
    wanted = np.asarray(query, dtype=np.float64)
    # Row by row: no product is kept as a matrix, whose fresh memory costs more than the arithmetic.
    norms = np.sqrt(np.vecdot(rows, rows)) * np.sqrt(np.vecdot(wanted, wanted))
    cosines: NDArray[np.float64] = np.vecdot(rows, wanted) / norms
    return np.maximum(np.minimum(cosines, 1.0), -1.0)
