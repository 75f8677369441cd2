"""holdfast: the durable store for everything an AI agent keeps."""

from typing import TYPE_CHECKING

from holdfast.open import open
from holdfast.shared import close_shared, shared
from holdfast.storage import Storage

if TYPE_CHECKING:
    from holdfast import aio as aio

__all__ = ["Storage", "close_shared", "open", "shared"]
__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    """`holdfast.aio` on first use: it costs the import of asyncio."""
    if name == "aio":
        import importlib

        return importlib.import_module("holdfast.aio")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
