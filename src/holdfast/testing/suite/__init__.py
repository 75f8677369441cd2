"""Every case of the suite. An engine's test module imports all of them."""

from holdfast.testing.suite.kv import TestKeyValue

__all__ = ["TestKeyValue"]
