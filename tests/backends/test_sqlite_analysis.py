"""A file whose terms an earlier text analysis made."""

from collections.abc import Iterator
from pathlib import Path

import pytest

import holdfast
from holdfast.backends.sql import editions, terms
from holdfast.backends.sqlite import schema
from holdfast.core import text
from holdfast.core.errors import SchemaNewer
from holdfast.testing.sentences import LANGUAGES


def forget_words() -> None:
    """What is made of words is remembered, by the analysis that made it."""
    for remembered in (text._FORMS, text._TERMS, terms._HASHED):
        remembered.clear()


@pytest.fixture
def earlier(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """The process as it was one edition of the analysis before: words in one spelling only."""
    for module in (schema, editions):
        monkeypatch.setattr(module, "ANALYSIS_VERSION", text.ANALYSIS_VERSION - 1)
    monkeypatch.setattr(text, "spellings", lambda word: (word,))
    forget_words()
    yield monkeypatch
    forget_words()


def recalled(path: Path, question: str) -> list[str]:
    with holdfast.open(str(path), embedder=None) as storage:
        return [item.memory.content for item in storage.memory.recall(question, mode="keyword")]


def test_terms_are_made_anew_when_the_analysis_has_changed(
    tmp_path: Path, earlier: pytest.MonkeyPatch
) -> None:
    path, sentence = tmp_path / "agent.db", LANGUAGES["French"].sentences[3]
    with holdfast.open(str(path), embedder=None) as storage:
        storage.memory.remember_many(list(LANGUAGES["French"].sentences))
    assert recalled(path, "cafe") == []
    earlier.undo()
    forget_words()
    for question in ("cafe", "CAFÉ"):
        assert recalled(path, question) == [sentence]
    with holdfast.open(str(path), embedder=None) as storage:
        assert storage.health().ok


def test_an_older_analysis_refuses_the_file(tmp_path: Path, earlier: pytest.MonkeyPatch) -> None:
    path = tmp_path / "agent.db"
    earlier.undo()
    forget_words()
    recalled(path, "nothing")
    before = path.read_bytes()
    earlier.setattr(editions, "ANALYSIS_VERSION", text.ANALYSIS_VERSION - 1)
    with pytest.raises(SchemaNewer):
        holdfast.open(str(path))
    assert path.read_bytes() == before
