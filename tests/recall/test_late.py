"""Late interaction over the tokens of the packaged model."""

import numpy as np
import pytest

from holdfast.core.embedding import LateReader, Reranker
from holdfast.recall.late import LateInteraction
from holdfast.recall.local import MiniLMEmbedder

TEXTS = [
    "We went to the harbour and ate fish.",
    "The bank raised interest rates again.",
    "My sister plays the violin in an orchestra.",
    "",
]


@pytest.fixture(scope="module")
def reader() -> LateInteraction:
    return LateInteraction(MiniLMEmbedder(threads=1))


def test_it_is_a_late_reader_and_a_reranker(reader: LateInteraction) -> None:
    assert isinstance(reader, LateReader)
    assert isinstance(reader, Reranker)
    assert "MiniLM" in reader.form


def test_a_token_takes_fifty_bytes(reader: LateInteraction) -> None:
    texts = [*TEXTS, "word " * 2000, "\ud800"]
    sizes = [len(one) for one in reader.pack(texts)]
    assert sizes == [50 * (len(ids) - 2) for ids, _ in reader._model.tokens(texts)]
    assert sizes[3:5] == [0, 50 * 254]


def test_scores_follow_the_equation(reader: LateInteraction) -> None:
    query = "Which instrument does she play, the violin?"
    scores = reader.score(query, reader.pack(TEXTS))
    model = reader._model
    [(ids, vectors)] = model.tokens([query])
    sides = [model.tokens([text])[0] for text in TEXTS]
    unit = vectors[1:-1] / np.linalg.norm(vectors[1:-1], axis=1, keepdims=True)
    weights, expected = [], []
    for token in ids[1:-1]:
        having = sum(token in side[0][1:-1] for side in sides)
        weights.append(np.log(1 + (len(TEXTS) - having + 0.5) / (having + 0.5)))
    for side in sides[:3]:
        signs = np.where(side[1][1:-1] >= 0, 1.0, -1.0) / np.sqrt(384)
        best = (unit @ signs.T).max(axis=1)
        expected.append(float(np.dot(weights, best) / np.sum(weights)))
    assert scores == pytest.approx([*expected, -1.0], abs=1e-4)
    assert scores.index(max(scores)) == 2


def test_nothing_to_read_or_to_ask_is_no_error(reader: LateInteraction) -> None:
    assert reader.score("tea", []) == []
    assert reader.score("", reader.pack(TEXTS)) == [-1.0] * 4
    assert reader.score("tea", [b"", b""]) == [-1.0, -1.0]
    with pytest.raises(ValueError, match="packed"):
        reader.score("tea", [b"torn"])
    assert reader.rerank("harbour", TEXTS)[0] == max(reader.rerank("harbour", TEXTS))
