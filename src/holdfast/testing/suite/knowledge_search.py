"""What in documents answers a query: E3, E4, E7, E8, N8."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from holdfast.core.errors import Invalid, Unavailable
from holdfast.core.search import Hits, Search
from holdfast.layers.layer import Layer
from holdfast.recall.rerankers import LexicalReranker, NoReranker
from holdfast.storage import Storage
from holdfast.stores.knowledge import KnowledgePolicy
from holdfast.testing.models import AngleEmbedder, WordReranker, with_models


class Noting(Layer):
    """Remembers the searches that pass."""

    def search(self, tenant: str, search: Search) -> Hits:
        self.__dict__.setdefault("seen", []).append(search)
        return self.below.search(tenant, search)


class Short:
    """A reranker that answers too few scores."""

    name = "short"

    def rerank(self, query: str, texts: Sequence[str]) -> list[float]:
        return [1.0] * (len(texts) - 1)


def angled(storage: Storage) -> Storage:
    """The storage with an embedder whose angles the texts name."""
    return with_models(storage, embedder=AngleEmbedder())


def ids(found: Any) -> list[str]:
    return [hit.item.id for hit in found]


def three(storage: Storage) -> Storage:
    """Both legs put a first; then the text leg has b, the vector leg c before b."""
    storage = angled(storage)
    for name, text in (("a", "alpha alpha @0"), ("b", "alpha beta @40"), ("c", "gamma @5")):
        storage.knowledge.put(name, text)
    return storage


class TestKnowledgeSearch:
    @pytest.mark.needs_vectors
    def test_e3_scores_are_reciprocal_ranks_of_both_legs(self, storage: Storage) -> None:
        found = three(storage).knowledge.search("alpha @0", explain=True)
        assert [(hit.item.id, hit.score, hit.legs) for hit in found] == [
            ("a#0", 0.03278688524590164, ("text", "vector")),
            ("b#0", 0.03200204813108039, ("text", "vector")),
            ("c#0", 0.016129032258064516, ("vector",)),
        ]
        assert found[1].parts["text"] == 1 / 62
        assert found[1].parts["vector"] == 1 / 63

    @pytest.mark.needs_vectors
    def test_e3_the_constant_is_settable(self, storage: Storage) -> None:
        knowledge = three(storage).knowledge.configured(KnowledgePolicy(rrf_k=5))
        found = knowledge.search("alpha @0")
        assert [hit.score for hit in found] == [1 / 6 + 1 / 6, 1 / 7 + 1 / 8, 1 / 7]

    @pytest.mark.needs_vectors
    def test_e3_each_leg_is_asked_for_four_times_the_limit_and_twenty(
        self, storage: Storage
    ) -> None:
        storage = three(storage)
        noting = Noting(storage._driver)
        knowledge = Storage(noting, storage.scope, storage._runtime).knowledge
        for limit in (1, 5, 6, 250):
            knowledge.search("alpha", limit=limit)
        assert [search.k for search in noting.__dict__["seen"]] == [20, 20, 24, 1_000]
        assert all(s.text is not None and s.vector is not None for s in noting.__dict__["seen"])

    @pytest.mark.needs_vectors
    def test_e3_convex_fusion_blends_the_scores_on_one_scale(self, storage: Storage) -> None:
        found = three(storage).knowledge.search("alpha @0", fusion="convex", explain=True)
        assert ids(found) == ["a#0", "c#0", "b#0"]
        assert found[0].score == pytest.approx(1.0)
        assert found[0].parts["text"] == pytest.approx(0.4)
        assert found[2].score == 0.0

    @pytest.mark.needs_vectors
    def test_e3_each_leg_alone(self, storage: Storage) -> None:
        knowledge = three(storage).knowledge
        assert ids(knowledge.search("alpha @5", mode="keyword")) == ["a#0", "b#0"]
        assert ids(knowledge.search("alpha @5", mode="vector")) == ["c#0", "a#0", "b#0"]

    @pytest.mark.needs_vectors
    def test_e3_k_means_k_and_no_term_finds_nothing(self, storage: Storage) -> None:
        knowledge = storage.knowledge
        for n in range(30):
            knowledge.put(f"d{n:02}", f"tea leaf {n}")
        for limit in (0, 1, 7, 30, 250):
            assert len(knowledge.search("tea", limit=limit)) == min(limit, 30)
        assert knowledge.search("", mode="keyword") == []
        assert knowledge.search("  ?!  ", mode="keyword") == []
        for query in ('"tea', "tea OR", "tea*", "NEAR(tea)", "'; --", "tea\u202e", "^tea:"):
            assert len(knowledge.search(query, limit=3)) == 3

    def test_e3_many_chunks_of_one_document_are_found_by_place(self, storage: Storage) -> None:
        parts = [f"## Part {n}\n\n" + f"filler{n} " * 45 for n in range(12)]
        parts[7] += "the kettle whistles"
        storage.knowledge.put("d", "\n".join(parts))
        [hit] = storage.knowledge.search("kettle whistles", mode="keyword", limit=1)
        text = storage.knowledge.text("d")
        assert text[hit.item.start : hit.item.end] == hit.item.text
        assert "kettle" in hit.item.text

    def test_e4_equal_scores_go_by_document_then_number(self, storage: Storage) -> None:
        storage = angled(storage)
        for name in ("b", "a", "ä", "B"):
            storage.knowledge.put(name, "same words @7")
        assert ids(storage.knowledge.search("same words @7")) == ["B#0", "a#0", "b#0", "ä#0"]
        same = "same words @7 " * 3 + "\n\n"
        knowledge = storage.knowledge.configured(
            KnowledgePolicy(chunk_characters=44, chunk_overlap=0)
        )
        for name in ("b", "a", "ä", "B"):
            knowledge.delete(name)
        for name in ("b", "a"):
            knowledge.put(name, same * 12)
        found = knowledge.search("same words @7", limit=24)
        assert ids(found) == [f"{name}#{n}" for name in "ab" for n in range(12)]

    def test_e4_the_order_is_the_same_again_and_from_another_handle(
        self, storage: Storage, open_storage: Any
    ) -> None:
        for n in range(40):
            storage.knowledge.put(f"d{n}", f"tea and cake {n % 4}")
        first = ids(storage.knowledge.search("tea 2", limit=25))
        assert ids(storage.knowledge.search("tea 2", limit=25)) == first
        assert ids(open_storage().knowledge.search("tea 2", limit=25)) == first

    @pytest.mark.needs_vectors
    def test_e7_sets_sources_and_metadata_narrow_before_the_limit(self, storage: Storage) -> None:
        knowledge = storage.knowledge
        for n in range(60):
            knowledge.put(f"near{n}", "kettle kettle", sets=["x"], metadata={"lang": "de"})
        for n in range(5):
            knowledge.put(
                f"far{n}",
                f"a kettle among many other words {n}",
                sets=["y", "z"],
                source="s",
                metadata={"lang": "en", "deep": {"n": n, "ok": True}},
            )
        expected = {f"far{n}#0" for n in range(5)}
        for narrowing in (
            {"sets": ["z", "none"]},
            {"sources": ["s"]},
            {"metadata": {"lang": "en"}},
            {"metadata": {"deep.ok": True}},
            {"documents": [f"far{n}" for n in range(5)]},
        ):
            for mode in ("hybrid", "keyword", "vector"):
                found = knowledge.search("kettle", limit=5, mode=mode, **narrowing)
                assert set(ids(found)) == expected, (narrowing, mode)
        assert ids(knowledge.search("kettle", metadata={"deep.n": 3})) == ["far3#0"]
        assert knowledge.search("kettle", metadata={"deep.n": "3"}) == []
        assert knowledge.search("kettle", sets=["z"], metadata={"lang": "de"}) == []
        assert ids(knowledge.search("kettle", sets=["z"], metadata={"deep.n": 3})) == ["far3#0"]
        missing = knowledge.search("kettle", limit=250, metadata={"deep.n": None})
        assert len(missing) == 60

    @pytest.mark.needs_vectors
    def test_e7_a_boost_weighs_and_zero_puts_last(self, storage: Storage) -> None:
        storage = angled(storage)
        for name in ("a", "b", "c"):
            storage.knowledge.put(name, "same words @7")
        storage.knowledge.curate("c", boost=1.5)
        storage.knowledge.curate("a", boost=0)
        found = storage.knowledge.search("same words @7", explain=True)
        assert ids(found) == ["c#0", "b#0", "a#0"]
        assert [hit.parts["boost"] for hit in found] == [1.5, 1.0, 0.0]
        assert found[2].score == 0.0
        assert found[0].score == (1 / 63 + 1 / 63) * 1.5

    def test_e7_curation_changes_document_and_chunks_together(self, storage: Storage) -> None:
        storage.knowledge.put("d", "tea " * 300, sets=["old"])
        storage.knowledge.curate("d", sets=["new", "new", "other"], metadata={"a": 1})
        held = storage.knowledge.get("d")
        assert held is not None
        assert (held.sets, held.metadata, held.boost) == (["new", "other"], {"a": 1}, 1.0)
        assert storage.knowledge.search("tea", sets=["old"]) == []
        assert len(storage.knowledge.search("tea", sets=["other"], limit=50)) == held.chunks
        before = storage.knowledge.get("d")
        storage.knowledge.curate("d", boost=None)
        assert storage.knowledge.get("d") == before

    def test_e8_without_a_reranker_and_with_none_the_order_is_that_of_fusion(
        self, storage: Storage
    ) -> None:
        storage = three(storage)
        plain = ids(storage.knowledge.search("alpha @0"))
        none = with_models(storage, reranker=NoReranker()).knowledge.search("alpha @0")
        assert ids(none) == plain
        assert none[0].rerank_score == 1.0

    def test_e8_the_first_four_times_the_limit_are_read_again(self, storage: Storage) -> None:
        for n in range(30):
            storage.knowledge.put(f"d{n:02}", "tea " + "filler " * n)
        reranker = WordReranker(lambda _, text: float(len(text)))
        found = with_models(storage, reranker=reranker).knowledge.search(
            "tea", limit=3, mode="keyword", explain=True
        )
        assert len(reranker.read) == 12
        assert [hit.rerank_score for hit in found] == sorted(map(float, map(len, reranker.read)))[
            :-4:-1
        ]
        assert found.stages["reranker"] == "words"
        reranker.read.clear()
        assert len(with_models(storage, reranker=reranker).knowledge.search("tea", limit=0)) == 0
        off = with_models(storage, reranker=reranker).knowledge.search("tea", rerank=False)
        assert (reranker.read, off[0].rerank_score) == ([], None)

    @pytest.mark.needs_vectors
    def test_e8_the_lexical_reranker_reads_the_candidates_words(self, storage: Storage) -> None:
        storage = angled(storage)
        storage.knowledge.put("far", "kettle tea @80")
        storage.knowledge.put("near", "something else @0")
        assert ids(storage.knowledge.search("tea kettle @0", mode="vector")) == ["near#0", "far#0"]
        again = with_models(storage, reranker=LexicalReranker(k1=1.2))
        found = again.knowledge.search("tea kettle @0", mode="vector")
        assert ids(found) == ["far#0", "near#0"]

    @pytest.mark.needs_vectors
    @pytest.mark.parametrize("kind", ["raises", "lies", "infinite", "short", "nonsense"])
    def test_e8_a_reranker_that_fails_leaves_the_order_and_a_flag(
        self, storage: Storage, kind: str
    ) -> None:
        def fail(_: str, __: str) -> float:
            if kind == "raises":
                raise Unavailable("down")
            if kind == "lies":
                raise ZeroDivisionError
            return float("nan") if kind == "infinite" else "x"  # type: ignore[return-value]

        storage = three(storage)
        plain = ids(storage.knowledge.search("alpha @0", limit=2))
        reranker: Any = Short() if kind == "short" else WordReranker(fail)
        found = with_models(storage, reranker=reranker).knowledge.search("alpha @0", limit=2)
        assert (ids(found), found.flags) == (plain, ("rerank_failed",))
        assert found[0].rerank_score is None

    @pytest.mark.needs_vectors
    def test_e3_a_query_that_cannot_be_embedded_is_answered_by_words(
        self, storage: Storage
    ) -> None:
        embedder = AngleEmbedder()
        storage = with_models(storage, embedder=embedder)
        storage.knowledge.put("d", "kettle @3")
        embedder.broken = Unavailable("down")
        found = storage.knowledge.search("kettle")
        assert (ids(found), found.flags) == (["d#0"], ("query_embedding_failed",))
        with pytest.raises(Unavailable):
            storage.knowledge.search("kettle", mode="vector")
        flags = storage.knowledge.search(
            " ".join(f"w{n}" for n in range(200)), mode="keyword"
        ).flags
        assert flags == ("query_terms_cut",)

    @pytest.mark.needs_vectors
    def test_n8_explain_tells_every_stage(self, storage: Storage) -> None:
        found = three(storage).knowledge.search("alpha @0", explain=True, limit=2)
        assert found.stages["terms"] == ["alpha"]
        assert (found.stages["text"], found.stages["vector"], found.stages["pool"]) == (2, 3, 20)
        assert found.stages["fusion"] == "rrf"
        assert set(found[0].parts) == {"text", "vector", "boost", "bm25", "cosine"}
        assert found[0].parts["cosine"] == pytest.approx(1.0, abs=1e-4)
        quiet = storage.knowledge.search("alpha", mode="keyword")
        assert (quiet.stages, quiet[0].parts) == ({}, {})

    def test_n8_results_read_well_and_act_on_nothing(self, storage: Storage) -> None:
        storage.knowledge.put("d", "<b>tea</b> \x1b[31m red", title="<i>T</i>\x07")
        found = storage.knowledge.search("tea")
        text, page = str(found), found._repr_html_()
        assert "text" in text
        assert "\x1b" not in text
        assert "\x07" not in text
        assert "<b>" not in page
        assert "<i>" not in page
        assert str(storage.knowledge.search("zzz", mode="keyword")) == "Nothing found."

    @pytest.mark.parametrize(
        ("wrong", "field"),
        [
            ({"limit": -1}, "limit"),
            ({"limit": 251}, "limit"),
            ({"limit": True}, "limit"),
            ({"mode": "both"}, "mode"),
            ({"fusion": "sum"}, "fusion"),
            ({"rerank": 1}, "rerank"),
            ({"explain": "yes"}, "explain"),
            ({"sets": "abc"}, "sets"),
            ({"sets": [1]}, "sets"),
            ({"sources": ["\x00"]}, "sources"),
            ({"documents": ["x" * 513]}, "documents"),
            ({"metadata": ["a"]}, "metadata"),
            ({"metadata": {"a": [1]}}, "metadata"),
            ({"metadata": {1: 1}}, "metadata"),
            ({"collection": ""}, "collection"),
        ],
    )
    def test_e3_bad_wishes_are_refused(
        self, storage: Storage, wrong: dict[str, Any], field: str
    ) -> None:
        with pytest.raises(Invalid) as refused:
            storage.knowledge.search("tea", **wrong)
        assert refused.value.field.startswith(field)
        for query in (None, 5, "a\x00", "\ud800"):
            with pytest.raises(Invalid):
                storage.knowledge.search(query)  # type: ignore[arg-type]
