"""The conformance suite: the same cases for every engine and through every layer.

An engine's test module has a ``harness`` fixture and ``from holdfast.testing.suite import *``
(docs/add-a-backend.md).
"""

from holdfast.testing.harness import Cannot, Harness

__all__ = ["Cannot", "Harness"]
