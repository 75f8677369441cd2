"""When to save, how many to keep, and whether to compress."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from holdfast.core.errors import Invalid, kind_of
from holdfast.core.values import check_bool, check_count
from holdfast.stores.store import one_of

Event = Literal["iteration", "tool_call", "response"]
"""What an agent has just come to the end of."""
Moment = Literal["after_tool_call", "every", "after_response", "never"]

KEEP: Final = 10_000


class SaveStrategy(msgspec.Struct, frozen=True):
    """When a checkpoint is due; "every" means at the end of every ``iterations``-th iteration."""

    when: Moment = "after_tool_call"
    iterations: int = 1

    def __post_init__(self) -> None:
        one_of("when", self.when, Moment)
        check_count("iterations", self.iterations, 1, 1_000_000_000)

    def due(self, event: Event, iteration: int) -> bool:
        """Whether to save now that ``event`` has happened in iteration 0, 1, 2 ..."""
        one_of("event", event, Event)
        check_count("iteration", iteration, 0, 2**62)
        if self.when == "every":
            return event == "iteration" and (iteration + 1) % self.iterations == 0
        return event == {"after_tool_call": "tool_call", "after_response": "response"}.get(
            self.when
        )


class CheckpointPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """The numbers by which checkpoints work.

    ``storage.checkpoints.configured(CheckpointPolicy(...))`` is the store with these.
    """

    strategy: SaveStrategy = SaveStrategy()
    keep: int | None = KEEP
    """The newest of a session that are kept; older ones go in steps of a tenth. None keeps all."""
    compress: bool = False
    """Whether shared bytes are deflated where that makes them fewer; any store reads both."""

    def __post_init__(self) -> None:
        if not isinstance(self.strategy, SaveStrategy):
            raise Invalid("strategy", expected="a SaveStrategy", got=kind_of(self.strategy))
        if self.keep is not None:
            check_count("keep", self.keep, 1, 1_000_000_000)
        check_bool("compress", self.compress)
