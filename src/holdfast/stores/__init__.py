"""Stores: what records mean, written once. None of them knows an engine.

To add one, write its file and add its line to STORES (docs/add-a-store.md).
"""

from __future__ import annotations

from typing import Final

from holdfast.stores.kv import KeyValue
from holdfast.stores.store import Store

STORES: Final[dict[str, type[Store]]] = {
    "kv": KeyValue,
}
"""Attribute of Storage -> its store."""
