"""Memory on an engine without vectors: kept, recalled by words, and said to be so."""

from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from holdfast.core.capabilities import Capabilities, no
from holdfast.core.driver import Driver
from holdfast.core.errors import Unavailable, Unsupported
from holdfast.layers.check import Checked
from holdfast.layers.layer import Layer
from holdfast.testing import plugin
from holdfast.testing.memory import MemoryHarness
from holdfast.testing.stage import Stage


class WithoutVectors(Layer):
    """As PostgreSQL is without pgvector."""

    def offers(self, below: Capabilities) -> Capabilities:
        return msgspec.structs.replace(below, vectors=no("there is no pgvector"))


def bare(driver: Driver) -> Driver:
    return Checked(WithoutVectors(driver))


def test_f34_recall_goes_by_words_and_says_so() -> None:
    stage = Stage(MemoryHarness(), bare)
    try:
        memory = stage.open_storage().memory
        memory.remember("Ada takes her tea without sugar.")
        memory.remember("Bob likes coffee.")
        found = memory.recall("tea")
        assert [item.memory.content for item in found] == ["Ada takes her tea without sugar."]
        assert found.flags == ("vectors_not_offered",)
        assert memory.recall("tea", mode="keyword").flags == ()
        with pytest.raises(Unsupported, match="pgvector"):
            memory.recall("tea", mode="vector")
    finally:
        stage.close()


@pytest.mark.parametrize("asked", ["hint", "coalesce", "supersede"])
def test_f22_where_nothing_is_compared_only_equal_content_is_one_memory(asked: Any) -> None:
    stage = Stage(MemoryHarness(), bare)
    try:
        memory = stage.open_storage().memory
        first = memory.remember("Ada takes her tea without any sugar at all.")
        near = memory.remember("Ada takes her tea without sugar at all.", near_duplicate=asked)
        same = memory.remember("Ada takes her tea without any sugar at all.", near_duplicate=asked)
        assert same.id == first.id
        assert (near.is_unique, near.similar_to) == (True, None)
        held = memory.get(first.id)
        assert held is not None
        assert held.superseded_by is None
    finally:
        stage.close()


def test_f23_messages_are_found_by_words_and_embedding_is_refused() -> None:
    stage = Stage(MemoryHarness(), bare)
    try:
        conversations = stage.open_storage().conversations
        talk = conversations.create().id
        conversations.append(talk, "Ada takes her tea without sugar.")
        found = conversations.search("tea")
        assert [item.message.text for item in found] == ["Ada takes her tea without sugar."]
        assert found.flags == ("vectors_not_offered",)
        with pytest.raises(Unsupported, match="pgvector"):
            conversations.embeddings.run()
        assert conversations.embeddings.stats().waiting == 0
        with pytest.raises(Unsupported, match="pgvector"):
            conversations.search("tea", mode="vector")
    finally:
        stage.close()


def outcome(stage: Stage, error: Exception, *, marked: bool) -> type[BaseException]:
    """What the suite makes of a case on this stage that ends in an error."""
    case: Any = SimpleNamespace(
        funcargs={"stage": stage}, get_closest_marker=lambda _: object() if marked else None
    )
    running = plugin.pytest_pyfunc_call(case)
    next(running)
    with pytest.raises(BaseException) as ended:  # noqa: PT011 - a skip is one too
        running.throw(error)
    return ended.type


def test_only_a_marked_case_is_skipped_and_only_where_vectors_are_missing() -> None:
    lacking, whole = Stage(MemoryHarness(), bare), Stage(MemoryHarness())
    for stage in (lacking, whole):
        stage.open_storage()
    refused, unmet, broken = Unsupported("no"), AssertionError(), Unavailable("down")
    assert outcome(lacking, refused, marked=True) is pytest.skip.Exception
    assert outcome(lacking, unmet, marked=True) is pytest.skip.Exception
    assert outcome(lacking, broken, marked=True) is Unavailable
    assert outcome(lacking, unmet, marked=False) is AssertionError
    assert outcome(whole, refused, marked=True) is Unsupported
    for stage in (lacking, whole):
        stage.close()
