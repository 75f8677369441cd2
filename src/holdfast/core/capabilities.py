"""What a driver offers, declared as one value, with a reason beside every no."""

from __future__ import annotations

import msgspec


class Capability(msgspec.Struct, frozen=True):
    """A yes, or a no with its reason."""

    offered: bool
    reason: str = ""

    def __bool__(self) -> bool:
        return self.offered


YES = Capability(True)


def no(reason: str) -> Capability:
    """Not offered, because of ``reason``."""
    return Capability(False, reason)


class Capabilities(msgspec.Struct, frozen=True, kw_only=True):
    """One field per thing that engines differ in; all else is the contract and always there."""

    durable: Capability
    multi_process: Capability
    full_text: Capability
    vectors: Capability
    feed: Capability
    backup: Capability
    integrity: Capability
    shared_commits: Capability
