"""Keyword recall in many languages and scripts: N6, F3."""

from __future__ import annotations

import pytest

from holdfast.core.ranking import bm25
from holdfast.core.text import analyze, term_frequencies
from holdfast.storage import Storage
from holdfast.testing.models import with_models
from holdfast.testing.sentences import LANGUAGES

EVERY = [sentence for language in LANGUAGES.values() for sentence in language.sentences]


class TestMemoryLanguages:
    @pytest.mark.parametrize("name", LANGUAGES)
    def test_n6_a_question_finds_its_sentence_first(self, storage: Storage, name: str) -> None:
        memory = with_models(storage, embedder=None).memory
        memory.remember_many(EVERY)
        sentences, questions = LANGUAGES[name]
        for question, number in questions.items():
            found = memory.recall(question, mode="keyword")
            first = found[0].memory.content if found else None
            assert first == sentences[number], question

    def test_n6_both_legs_together_keep_the_answer(self, storage: Storage) -> None:
        storage.memory.remember_many(EVERY)
        asked = hits = 0
        for sentences, questions in LANGUAGES.values():
            for question, number in questions.items():
                best = [item.memory.content for item in storage.memory.recall(question, k=3)]
                asked, hits = asked + 1, hits + (sentences[number] in best)
        assert hits == asked

    def test_n6_scores_are_those_of_plain_arithmetic(self, storage: Storage) -> None:
        memory = with_models(storage, embedder=None).memory
        memory.remember_many(EVERY)
        documents = {sentence: term_frequencies(sentence) for sentence in EVERY}
        lengths = {sentence: sum(terms.values()) for sentence, terms in documents.items()}
        mean = sum(lengths.values()) / len(lengths)
        held = {
            t: sum(t in d for d in documents.values()) for q in _questions() for t in analyze(q)
        }
        for question in _questions():
            terms = set(analyze(question))
            expected = {
                sentence: sum(
                    bm25(d.get(t, 0), held[t], len(documents), lengths[sentence], mean)
                    for t in terms
                )
                for sentence, d in documents.items()
                if terms & d.keys()
            }
            found = memory.recall(question, mode="keyword", k=len(EVERY))
            scores = {item.memory.content: item.score for item in found}
            assert scores == pytest.approx(expected, abs=1e-4)

    def test_n6_no_language_takes_anothers_words(self, storage: Storage) -> None:
        memory = with_models(storage, embedder=None).memory
        memory.remember_many(EVERY)
        for name, question in (("Thai", "แมว"), ("Greek", "γάτα"), ("Tamil", "பூனை")):
            found = memory.recall(question, mode="keyword", k=50)
            assert {item.memory.content for item in found} <= set(LANGUAGES[name].sentences)


def _questions() -> list[str]:
    return [question for language in LANGUAGES.values() for question in language.questions]
