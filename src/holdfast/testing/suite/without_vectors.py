"""What asks for vectors, on every engine: answered, or refused by the engine's own reason: F34."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from holdfast.core.errors import Unsupported
from holdfast.storage import Storage

ASKING: dict[str, Callable[[Storage], object]] = {
    "memory": lambda s: s.memory.recall("tea", mode="vector"),
    "memory, by a vector": lambda s: s.memory.recall(vector=[0.5] * 256, mode="vector"),
    "messages": lambda s: s.conversations.search("tea", mode="vector"),
    "embedding of messages": lambda s: s.conversations.embeddings.run(),
    "knowledge": lambda s: s.knowledge.search("tea", mode="vector"),
    "library": lambda s: s.knowledge.library.search("tea", mode="vector"),
    "repair of knowledge": lambda s: s.knowledge.vectors.repair(),
    "another model for knowledge": lambda s: s.knowledge.vectors.reembed(),
}


def written(storage: Storage) -> None:
    """One thing of each kind about tea, which is told alike on every engine."""
    storage.memory.remember("Ada takes her tea without sugar.")
    storage.conversations.append(storage.conversations.create().id, "Tea at four?")
    storage.knowledge.put("tea", "Tea is brewed at ninety degrees.")


class TestWithoutVectors:
    @pytest.mark.parametrize("asking", ASKING)
    def test_f34_vectors_are_answered_or_refused_with_the_reason(
        self, storage: Storage, asking: str
    ) -> None:
        written(storage)
        offered = storage._driver.capabilities.vectors
        if offered:
            ASKING[asking](storage)
            assert not offered.reason
            return
        with pytest.raises(Unsupported) as refused:
            ASKING[asking](storage)
        assert offered.reason in refused.value.message

    def test_f34_words_find_everywhere_and_say_what_was_missing(self, storage: Storage) -> None:
        written(storage)
        missing = () if storage._driver.capabilities.vectors else ("vectors_not_offered",)
        recalled = storage.memory.recall("tea")
        assert len(recalled) == 1
        assert recalled.flags == missing
        found = storage.knowledge.search("tea")
        assert len(found) == 1
        assert found.flags == missing
        said = storage.conversations.search("tea")
        assert len(said) == 1
