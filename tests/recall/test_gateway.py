"""Embeddings and reranking from a service, over real HTTP."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("httpx2")

from holdfast.core.embedding import Embedder, Reranker
from holdfast.core.errors import (
    DimensionMismatch,
    Forbidden,
    HoldfastError,
    Invalid,
    InvalidVector,
    Timeout,
    Unavailable,
)
from holdfast.recall import gateway
from holdfast.recall.gateway import Retries
from holdfast.recall.remote import OpenAIEmbedder
from holdfast.recall.rerankers import GatewayReranker
from holdfast.testing.servers.pids import wait_for
from tests.recall.model_service import ModelService, Reply, model_service

KEY = "sk-never-show-this"
KEY_ENV = "HOLDFAST_TEST_MODEL_KEY"
PLENTY_SECONDS = 60.0
SHORT_SECONDS = 0.2
"""How long a service that hangs until the test is over is waited for."""


def vector(text: str) -> list[float]:
    return [float(len(text)) + 1, 1.0, 0.0]


def embeddings(body: Any) -> Reply:
    """Answer well, but in reverse order, as the form allows."""
    data = [{"index": i, "embedding": vector(text)} for i, text in enumerate(body["input"])]
    return Reply(200, {"object": "list", "data": data[::-1], "model": body["model"]})


def fixed(*args: Any, **headers: Any) -> Callable[[Any], Reply]:
    return lambda body: Reply(*args, **headers)


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelService]:
    monkeypatch.setenv(KEY_ENV, KEY)
    with model_service() as running:
        running.replies = [embeddings]
        yield running


@pytest.fixture
def slept() -> list[float]:
    return []


@pytest.fixture
def seconds() -> float:
    """For each try; a test that waits in vain has fewer."""
    return PLENTY_SECONDS


@pytest.fixture
def embedder(service: ModelService, slept: list[float], seconds: float) -> Iterator[OpenAIEmbedder]:
    model = OpenAIEmbedder(
        "small",
        width=3,
        base_url=service.url,
        key_env=KEY_ENV,
        timeout=seconds,
        retries=Retries(sleep=slept.append, uniform=lambda low, high: high),
    )
    yield model
    model.close()


@pytest.fixture
def reranker(service: ModelService, slept: list[float]) -> Iterator[GatewayReranker]:
    model = GatewayReranker(
        "judge",
        base_url=service.url,
        timeout=PLENTY_SECONDS,
        retries=Retries(sleep=slept.append, uniform=lambda low, high: high),
    )
    yield model
    model.close()


def test_vectors_come_back_in_order_and_unit(
    embedder: OpenAIEmbedder, service: ModelService
) -> None:
    assert isinstance(embedder, Embedder)
    vectors = embedder.embed(["a", "bbbb"])
    expected = np.array([vector("a"), vector("bbbb")])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    assert vectors.dtype == np.float32
    assert np.allclose(vectors, expected)
    path, headers, body = service.asked[0]
    assert path == "/v1/embeddings"
    assert headers["authorization"] == f"Bearer {KEY}"
    assert body == {"model": "small", "input": ["a", "bbbb"], "encoding_format": "float"}


def test_batches_hold_20_texts_and_24000_characters(
    embedder: OpenAIEmbedder, service: ModelService
) -> None:
    texts = ["x"] * 45 + ["y" * 10_000] * 3 + ["z" * 30_000, "w"]
    assert embedder.embed(texts).shape == (50, 3)
    sizes = [[len(text) for text in body["input"]] for _, _, body in service.asked]
    assert [len(batch) for batch in sizes] == [20, 20, 7, 1, 1, 1]
    assert [n for batch in sizes for n in batch] == [len(text) for text in texts]
    assert embedder.embed([]).shape == (0, 3)


def test_hostile_texts_travel(embedder: OpenAIEmbedder, service: ModelService) -> None:
    assert embedder.embed(["", "\ud800", "\x00", '"}]']).shape == (4, 3)
    assert service.asked[0][2]["input"] == [" ", "?", "\x00", '"}]']


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_passing_failures_are_tried_again(
    embedder: OpenAIEmbedder, service: ModelService, slept: list[float], status: int
) -> None:
    service.replies = [fixed(status), fixed(status), embeddings]
    assert embedder.embed(["a"]).shape == (1, 3)
    assert slept == [1.0, 2.0]


def test_the_third_failure_is_the_last(
    embedder: OpenAIEmbedder, service: ModelService, slept: list[float]
) -> None:
    service.replies = [fixed(503)]
    with pytest.raises(Unavailable, match="503"):
        embedder.embed(["a"])
    assert len(service.asked) == 3
    assert slept == [1.0, 2.0]


@pytest.mark.parametrize(("asked", "waited"), [("7", 7.0), ("3600", 10.0), ("Wed, 1 Jan", 1.0)])
def test_a_service_may_ask_for_a_longer_wait(
    embedder: OpenAIEmbedder, service: ModelService, slept: list[float], asked: str, waited: float
) -> None:
    service.replies = [fixed(429, retry_after=asked), embeddings]
    embedder.embed(["a"])
    assert slept == [waited]


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, Invalid),
        (401, Forbidden),
        (403, Forbidden),
        (404, Invalid),
        (413, Invalid),
        (302, Unavailable),
    ],
)
def test_lasting_failures_are_not_tried_again(
    embedder: OpenAIEmbedder, service: ModelService, status: int, error: type[HoldfastError]
) -> None:
    service.replies = [fixed(status, {"echo": KEY}, location=f"{service.url}/v1/elsewhere")]
    with pytest.raises(error) as caught:
        embedder.embed(["a secret text"])
    assert len(service.asked) == 1
    assert KEY not in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("seconds", [SHORT_SECONDS])
def test_a_service_that_hangs_is_left_in_time(
    embedder: OpenAIEmbedder, service: ModelService, slept: list[float]
) -> None:
    service.replies = [fixed(0)]
    with pytest.raises(Timeout):
        embedder.embed(["a"])
    assert slept == [1.0, 2.0]
    # Its threads may get to read what was asked when nobody waits any more.
    wait_for(lambda: len(service.asked) == 3, seconds=PLENTY_SECONDS)


def test_a_service_that_drips_is_left_in_time(
    embedder: OpenAIEmbedder, service: ModelService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its bytes come soon enough one by one, and by the clock each took a third of the time."""
    now = itertools.count(0.0, PLENTY_SECONDS / 3)
    monkeypatch.setattr(gateway, "time", SimpleNamespace(monotonic=lambda: next(now)))
    service.replies = [fixed(200, b" " * 10_000, drip=True), embeddings]
    assert embedder.embed(["a"]).shape == (1, 3)


def test_a_service_that_is_not_there_is_unavailable(slept: list[float]) -> None:
    retries = Retries(sleep=slept.append)
    with model_service() as gone:
        url = gone.url
    model = OpenAIEmbedder("m", width=3, base_url=url, key_env=None, retries=retries)
    with pytest.raises(Unavailable):
        model.embed(["a"])
    model.close()
    assert len(slept) == 2


def item(index: Any, *numbers: Any) -> dict[str, Any]:
    return {"index": index, "embedding": list(numbers)}


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({"data": [item(0, 1, 1, 1)]}, Unavailable),
        ({"data": [item(0, 1, 1, 1)] * 2}, Unavailable),
        ({"data": [item(1, 1, 1, 1), item(2, 1, 1, 1)]}, Unavailable),
        ({"data": [item(0, 1, 1, 1), item(1, 1, 1, 1), item(2, 1, 1, 1)]}, Unavailable),
        ({"data": [item(0, 1, 1), item(1, 1, 1)]}, DimensionMismatch),
        ({"data": [item(0, 1, 1, 1), item(1, 1, 1, 1, 1)]}, DimensionMismatch),
        ({"data": [item(0, 1, 1, float("nan")), item(1, 1, 1, 1)]}, HoldfastError),
        ({"data": [item(0, 1, 1, float("inf")), item(1, 1, 1, 1)]}, HoldfastError),
        ({"data": [item(0, 1, None, 1), item(1, 1, 1, 1)]}, Unavailable),
        ({"data": [item(0, 0, 0, 0), item(1, 1, 1, 1)]}, InvalidVector),
        ({"data": {}}, Unavailable),
        ({"error": "none"}, Unavailable),
        (b'{"data": [', Unavailable),
        (b"\xff\xfe", Unavailable),
        (b"", Unavailable),
    ],
)
def test_wrong_answers_are_refused(
    embedder: OpenAIEmbedder, service: ModelService, body: Any, error: type[HoldfastError]
) -> None:
    service.replies = [fixed(200, body)]
    with pytest.raises(error):
        embedder.embed(["a", "b"])


def test_huge_and_tiny_numbers_keep_their_direction(
    embedder: OpenAIEmbedder, service: ModelService
) -> None:
    data = [item(0, 1e300, 1e300, 0), item(1, 1e-300, 0, 0)]
    service.replies = [fixed(200, {"data": data})]
    root = 0.5**0.5
    assert np.allclose(embedder.embed(["a", "b"]), [[root, root, 0], [1, 0, 0]])


def test_the_key_is_shown_nowhere(embedder: OpenAIEmbedder) -> None:
    assert KEY not in repr(embedder)
    assert KEY_ENV in repr(embedder)
    assert embedder.space.id == "small@1/3"


@pytest.mark.parametrize("value", ["", "  ", "sk-\nbroken", "sk-é"])
def test_an_unusable_key_is_refused_before_any_call(
    embedder: OpenAIEmbedder, service: ModelService, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setitem(os.environ, KEY_ENV, value)
    with pytest.raises(Invalid, match=KEY_ENV):
        embedder.embed(["a"])
    assert service.asked == []


@pytest.mark.parametrize(
    ("base", "path"),
    [
        ("", "/v1/embeddings"),
        ("/", "/v1/embeddings"),
        ("/v1", "/v1/embeddings"),
        ("/v1/", "/v1/embeddings"),
        ("/api/v3", "/api/v3/embeddings"),
        ("/ollama", "/ollama/v1/embeddings"),
    ],
)
def test_a_base_url_may_name_its_version(service: ModelService, base: str, path: str) -> None:
    model = OpenAIEmbedder("m", width=3, base_url=service.url + base, key_env=None, dimensions=True)
    model.embed(["a"])
    model.close()
    assert service.asked[0][0] == path
    assert "authorization" not in service.asked[0][1]
    assert service.asked[0][2]["dimensions"] == 3


@pytest.mark.parametrize("url", ["", "ftp://host", "host/v1", "https://me:pw@host/v1"])
def test_base_urls_that_cannot_work_are_refused(url: str) -> None:
    with pytest.raises(Invalid) as caught:
        OpenAIEmbedder("m", width=3, base_url=url)
    assert "pw" not in str(caught.value)


def test_scores_come_back_in_the_order_of_the_texts(
    reranker: GatewayReranker, service: ModelService
) -> None:
    results = [{"index": 1, "relevance_score": 0.9}, {"index": 0, "relevance_score": 0.1}]
    service.replies = [fixed(500), fixed(200, {"results": results})]
    assert isinstance(reranker, Reranker)
    assert reranker.rerank("q", ["a", ""]) == [0.1, 0.9]
    path, _, body = service.asked[-1]
    assert path == "/v1/rerank"
    assert body == {"model": "judge", "query": "q", "documents": ["a", " "], "top_n": 2}
    assert reranker.rerank("q", []) == []
    assert reranker.name == "judge"


@pytest.mark.parametrize(
    "results",
    [
        [{"index": 0, "relevance_score": 0.1}],
        [{"index": 0, "relevance_score": 0.1}] * 2,
        [{"index": 0, "relevance_score": 0.1}, {"index": 9, "relevance_score": 0.1}],
        [{"index": 0, "relevance_score": 0.1}, {"index": 1, "relevance_score": float("nan")}],
        [{"index": 0}, {"index": 1}],
    ],
)
def test_incomplete_scores_are_refused(
    reranker: GatewayReranker, service: ModelService, results: Any
) -> None:
    service.replies = [fixed(200, {"results": results})]
    with pytest.raises(Unavailable):
        reranker.rerank("q", ["a", "b"])
