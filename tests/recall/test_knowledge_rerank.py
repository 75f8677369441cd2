"""Knowledge with a reranker behind HTTP: its order when it answers, else the one there was."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import holdfast
from holdfast.recall.gateway import Retries
from holdfast.recall.rerankers import GatewayReranker
from holdfast.storage import Storage
from tests.recall.model_service import ModelService, Reply, model_service


@pytest.fixture
def service() -> Iterator[ModelService]:
    with model_service() as made:
        yield made


@pytest.fixture
def storage(service: ModelService) -> Iterator[Storage]:
    retries = Retries(sleep=lambda _: None, uniform=lambda low, high: high)
    judge = GatewayReranker("judge", base_url=service.url, timeout=60.0, retries=retries)
    with holdfast.open("memory:", reranker=judge) as opened:
        for n in range(30):
            opened.knowledge.put(f"d{n:02}", f"tea {n}")
        yield opened
    judge.close()


def by_number(body: Any) -> Reply:
    """Likes the text with the highest number."""
    scores = [
        {"index": i, "relevance_score": float(text.split()[-1])}
        for i, text in enumerate(body["documents"])
    ]
    return Reply(200, {"results": scores[::-1]})


def ids(storage: Storage, **options: Any) -> list[str]:
    return [h.item.id for h in storage.knowledge.search("tea", limit=3, mode="keyword", **options)]


def test_e8_the_service_orders_four_times_what_is_wanted(
    storage: Storage, service: ModelService
) -> None:
    service.replies = [by_number]
    assert ids(storage) == ["d11#0", "d10#0", "d09#0"]
    assert len(service.asked[0][2]["documents"]) == 12


@pytest.mark.parametrize("status", [400, 401, 429, 500])
def test_e8_a_service_that_fails_leaves_the_order_and_a_flag(
    storage: Storage, service: ModelService, status: int
) -> None:
    plain = ids(storage, rerank=False)
    service.replies = [lambda _: Reply(status, {"error": "no"})]
    found = storage.knowledge.search("tea", limit=3, mode="keyword")
    assert ([h.item.id for h in found], found.flags) == (plain, ("rerank_failed",))
    service.replies = [lambda _: Reply(200, b"not json")]
    assert ids(storage) == plain
