"""Rerankers that need no service."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.core.embedding import Reranker
from holdfast.recall.rerankers import LexicalReranker, NoReranker

ANY_TEXT = st.text(st.characters(exclude_categories=()))


def test_the_best_worded_answer_scores_highest() -> None:
    texts = ["We talked about rent.", "The rent of the flat rose.", "Bread, again.", ""]
    scores = LexicalReranker().rerank("How did the flat's rent rise?", texts)
    assert scores[1] == max(scores)
    assert scores[0] > scores[2] == scores[3] == 0


def test_no_reranker_keeps_the_order() -> None:
    scores = NoReranker().rerank("q", ["b", "a", "c"])
    assert scores == sorted(scores, reverse=True)
    assert len(set(scores)) == 3


@pytest.mark.parametrize("reranker", [NoReranker(), LexicalReranker()])
def test_rerankers_fulfil_the_protocol(reranker: object) -> None:
    assert isinstance(reranker, Reranker)


@given(ANY_TEXT, st.lists(ANY_TEXT, max_size=6))
def test_no_text_raises_and_every_text_has_a_score(query: str, texts: list[str]) -> None:
    for reranker in (NoReranker(), LexicalReranker()):
        scores = reranker.rerank(query, texts)
        assert len(scores) == len(texts)
        assert all(score >= 0 for score in scores)
