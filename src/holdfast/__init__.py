"""holdfast: the durable store for everything an AI agent keeps."""

from holdfast.open import open
from holdfast.storage import Storage

__all__ = ["Storage", "open"]
__version__ = "0.1.0"
