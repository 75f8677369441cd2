"""What agents share, and how sources are reached: E12, E13."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from holdfast.core.clock import ManualClock
from holdfast.core.errors import Forbidden, HoldfastError, Invalid, NotFound
from holdfast.storage import Storage
from holdfast.stores.knowledge.records import CONNECTORS
from holdfast.testing.models import AngleEmbedder, with_models
from holdfast.testing.threads import together


class TestLibrary:
    def test_e12_an_item_is_published_with_its_provenance(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        made = storage.with_agent("scout").knowledge.library.publish(
            "Retries",
            "Wait twice as long after each failure.",
            category="practice",
            confidence=0.8,
            source="incident 7",
            source_id="memory-1",
            tags=["ops", "ops"],
        )
        assert (made.publisher, made.source, made.source_id) == ("scout", "incident 7", "memory-1")
        assert (made.created_at, made.tags, made.endorsements) == (clock.now(), ["ops"], 0)
        assert storage.with_agent("other").knowledge.library.get(made.id) == made
        assert storage.scoped(tenant="other").knowledge.library.get(made.id) is None
        assert storage.scoped(user="other").knowledge.library.get(made.id) is None

    def test_e12_an_agent_endorses_once(self, storage: Storage, open_storage: Any) -> None:
        made = storage.knowledge.library.publish("T", "text", category="c", publisher="scout")
        handles = [open_storage(agent=f"agent{n % 3}").knowledge.library for n in range(6)]
        answers = together([partial(h.endorse, made.id) for h in handles])
        assert sorted(answers) == [False] * 3 + [True] * 3
        held = storage.knowledge.library.get(made.id)
        assert held is not None
        assert held.endorsements == 3
        names = [e.endorser for e in storage.knowledge.library.endorsements(made.id)]
        assert names == ["agent0", "agent1", "agent2"]
        with pytest.raises(NotFound):
            handles[0].endorse("missing")

    def test_e12_lists_go_by_category_and_confidence(self, storage: Storage) -> None:
        library = storage.knowledge.library
        made = {
            confidence: library.publish(
                f"T{confidence}",
                "text",
                category="odd" if confidence in (0.1, 0.9) else "even",
                confidence=confidence,
                publisher="scout",
                tags=["x", "y"] if confidence > 0.5 else ["x"],
            )
            for confidence in (0.4, 0.9, 0.1, 0.8)
        }
        first = library.list(limit=3)
        rest = library.list(limit=3, cursor=first.next_cursor)
        assert [i.confidence for i in (*first, *rest)] == [0.9, 0.8, 0.4, 0.1]
        assert library.list(category="odd").items == [made[0.9], made[0.1]]
        assert library.list(category="odd", min_confidence=0.9).items == [made[0.9]]
        assert [i.confidence for i in library.list(tags=["y", "x"])] == [0.9, 0.8]
        assert len(library.list(publisher="nobody")) == 0
        again = library.publish("T0.4", "text", category="even", confidence=0.4, publisher="b")
        tied = [i.id for i in library.list(category="even") if i.confidence == 0.4]
        assert tied == sorted([made[0.4].id, again.id])

    @pytest.mark.needs_vectors
    def test_e12_search_is_hybrid_and_narrows_before_the_limit(self, storage: Storage) -> None:
        library = with_models(storage, embedder=AngleEmbedder()).knowledge.library
        for _ in range(60):
            library.publish("near", "kettle kettle @0", category="noise", publisher="a")
        words = library.publish("far", "a kettle, far away @90", category="c", publisher="a")
        angle = library.publish("far", "something else @10", category="c", publisher="a")
        found = library.search("kettle @0", category="c", limit=2, explain=True)
        assert [hit.item.id for hit in found] == [words.id, angle.id]
        assert [hit.legs for hit in found] == [("text", "vector"), ("vector",)]
        assert found[0].score == 1 / 61 + 1 / 62
        assert len(library.search("kettle @0", min_confidence=0.6)) == 0
        titled = library.search("far", mode="keyword")
        assert {hit.item.id for hit in titled} == {words.id, angle.id}

    def test_e12_its_publisher_takes_an_item_back(self, storage: Storage) -> None:
        scout, other = (storage.with_agent(n).knowledge.library for n in ("scout", "other"))
        made = scout.publish("T", "the kettle", category="c")
        other.endorse(made.id)
        with pytest.raises(Forbidden):
            other.withdraw(made.id)
        assert scout.withdraw(made.id)
        assert not scout.withdraw(made.id)
        assert scout.search("kettle") == []
        assert len(scout.endorsements(made.id)) == 0

    def test_e12_an_agent_acts_for_itself_alone(self, storage: Storage) -> None:
        bound = storage.with_agent("scout").knowledge.library
        with pytest.raises(Forbidden):
            bound.publish("T", "text", category="c", publisher="other")
        made = bound.publish("T", "text", category="c")
        with pytest.raises(Forbidden):
            bound.endorse(made.id, endorser="other")
        with pytest.raises(Invalid, match="publisher"):
            storage.knowledge.library.publish("T", "text", category="c")
        with pytest.raises(Invalid, match="endorser"):
            storage.knowledge.library.endorse(made.id)

    @pytest.mark.parametrize(
        "wrong",
        [
            {"confidence": 1.5},
            {"confidence": float("nan")},
            {"confidence": "high"},
            {"category": ""},
            {"content": " "},
            {"content": "\x00"},
            {"title": None},
            {"tags": "abc"},
            {"source": 5},
        ],
    )
    def test_e12_bad_items_are_refused(self, storage: Storage, wrong: dict[str, Any]) -> None:
        item = {"title": "T", "content": "text", "category": "c", "publisher": "a", **wrong}
        with pytest.raises(Invalid):
            storage.knowledge.library.publish(**item)
        assert len(storage.knowledge.library.list()) == 0
        with pytest.raises(Invalid):
            storage.knowledge.library.list(min_confidence=2)


SECRETS: list[tuple[dict[str, Any], str]] = [
    ({"settings": {"password": "hunter2-hunter2"}}, "settings.password"),
    ({"settings": {"deep": {"API_KEY": "hunter2-hunter2"}}}, "settings.deep.API_KEY"),
    ({"settings": {"list": [{"access_token": "hunter2-hunter2"}]}}, "settings.list.access_token"),
    ({"settings": {"clientSecret": ["hunter2-hunter2"]}}, "settings.clientSecret"),
    ({"settings": {"url": "https://me:hunter2-hunter2@example.org"}}, "settings.url"),
    ({"secrets": {"token": "hunter2-hunter2"}}, "secrets.token"),
    ({"secrets": {"token": "env:not a name hunter2-hunter2"}}, "secrets.token"),
    ({"secrets": {"token": "https://hunter2-hunter2"}}, "secrets.token"),
    ({"secrets": {"token": 5}}, "secrets.token"),
    ({"secrets": ["env:X"]}, "secrets"),
]


class TestConnectors:
    def test_e13_connectors_are_kept_changed_and_deleted(
        self, storage: Storage, open_storage: Any, clock: ManualClock
    ) -> None:
        made = storage.knowledge.connectors.create(
            "Wiki",
            "confluence",
            settings={"url": "https://wiki.example.org", "spaces": ["A"], "max_tokens": 9},
            secrets={"token": "env:WIKI_TOKEN", "cert": "file:/run/secrets/wiki.pem"},
        )
        connectors = open_storage().knowledge.connectors
        assert connectors.get(made.id) == made
        clock.set(clock.now() + timedelta(hours=1))
        done = connectors.update(made.id, enabled=False, settings={"url": "https://w"})
        assert (done.enabled, done.settings) == (False, {"url": "https://w"})
        assert done.secrets == made.secrets
        assert (done.created_at, done.updated_at) == (made.created_at, clock.now())
        assert connectors.delete(made.id)
        assert not connectors.delete(made.id)
        assert connectors.get(made.id) is None
        with pytest.raises(NotFound):
            connectors.update(made.id, name="x")

    def test_e13_they_are_listed_by_name_then_id_per_tenant(self, storage: Storage) -> None:
        connectors = storage.knowledge.connectors
        made = [connectors.create(name, "web") for name in ("b", "a", "b", "B")]
        storage.scoped(tenant="other").knowledge.connectors.create("a", "web")
        first = connectors.list(limit=3)
        rest = connectors.list(limit=3, cursor=first.next_cursor)
        twins = sorted([made[0].id, made[2].id])
        assert [c.id for c in (*first, *rest)] == [made[3].id, made[1].id, *twins]
        connectors.update(made[1].id, enabled=False)
        assert [c.name for c in connectors.list(enabled=False)] == ["a"]
        assert len(connectors.list(kind="mail")) == 0

    @pytest.mark.parametrize(("given", "field"), SECRETS)
    def test_e13_a_secret_is_refused_by_name_and_shown_nowhere(
        self, storage: Storage, harness: Any, given: dict[str, Any], field: str
    ) -> None:
        made = storage.knowledge.connectors.create("w", "web")
        connectors = storage.knowledge.connectors
        for call in (
            partial(connectors.create, "w", "web", **given),
            partial(connectors.update, made.id, **given),
        ):
            with pytest.raises(Invalid) as refused:
                call()
            assert refused.value.field == field
            assert "hunter2" not in f"{refused.value} {refused.value.context!r}"
        assert "hunter2" not in repr(harness.peek(CONNECTORS, "default"))
        assert storage.knowledge.connectors.list().items == [made]

    def test_e13_errors_of_the_engine_are_raised(self, storage: Storage) -> None:
        storage.close()
        with pytest.raises(HoldfastError):
            storage.knowledge.connectors.list()
        with pytest.raises(HoldfastError):
            storage.knowledge.connectors.create("w", "web")
        with pytest.raises(HoldfastError):
            storage.knowledge.search("tea")
