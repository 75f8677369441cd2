"""How the server is to plan what a search asks, inside the search's own transaction."""

from __future__ import annotations

from typing import Final

from holdfast.backends.postgres.wire import Command

PLANNED: Final[tuple[Command, ...]] = (
    (
        (
            "SELECT set_config('plan_cache_mode', 'force_generic_plan', true),"
            " set_config('enable_seqscan', 'off', true)"
        ),
        (),
    ),
)
"""For what reads little: to plan it takes twice the time of doing it, so one plan serves for all
tenants. It must be by indexes, whatever the average tenant is like, and needs statistics: of a
table that was never analyzed the server may think that any index is as good as that of the key."""

UNPLANNED: Final[tuple[Command, ...]] = (
    ("SET LOCAL plan_cache_mode TO DEFAULT", ()),
    ("SET LOCAL enable_seqscan TO DEFAULT", ()),
)
"""For what reads much: its plan is worth making anew."""
