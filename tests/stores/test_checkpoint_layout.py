"""What two states have in common, and how a state is written down, on generated states."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from holdfast.stores.checkpoints.delta import ANCHOR, copies
from holdfast.stores.checkpoints.layout import (
    HELD_BACK,
    LOG_LIMIT,
    NEW,
    REST_SIZE,
    SPAN_LIMIT,
    Layout,
    Part,
    Span,
    assembled,
    plan,
    read,
    whole,
    written,
)
from holdfast.testing.strategies import examples

_PIECES = st.lists(
    st.builds(
        lambda text, times: text * times,
        st.binary(min_size=1, max_size=40),
        st.sampled_from([1, 2, 9, 60, 400]),
    ),
    max_size=8,
)


@st.composite
def histories(draw: st.DrawFn) -> list[bytes]:
    """States of which each is made of pieces of those before it, in any order, and new ones."""
    states = [b"".join(draw(_PIECES))]
    for _ in range(draw(st.integers(1, 6))):
        last, pieces = states[-1], draw(_PIECES)
        for _ in range(draw(st.integers(0, 4))):
            start = draw(st.integers(0, len(last)))
            stop = draw(st.integers(start, len(last)))
            pieces.insert(draw(st.integers(0, len(pieces))), last[start:stop])
        states.append(b"".join(pieces))
    return states


@examples(150)
@given(histories())
def test_copies_are_equal_in_order_and_apart(states: list[bytes]) -> None:
    for old, new in pairwise(states):
        source = place = 0
        for copy in copies(old, new):
            assert copy.length >= ANCHOR
            assert copy.source >= source
            assert copy.place >= place
            source, place = copy.source + copy.length, copy.place + copy.length
            assert old[copy.source : source] == new[copy.place : place]


@examples(150)
@given(histories())
def test_every_state_of_a_history_is_assembled_as_it_was(states: list[bytes]) -> None:
    logs: dict[str, bytes] = {}
    kept: list[tuple[dict[str, object], bytes]] = []
    parts: list[Part] = []
    old, log = b"", ""
    for number, state in enumerate(states):
        end = (log, len(logs[log])) if log else (NEW, 0)
        layout = plan(state, parts, old, *end) if kept else whole(state)
        assert len(layout.spans()) <= SPAN_LIMIT
        assert len(layout.logs()) <= LOG_LIMIT
        if layout.appended:
            log = _append(layout, logs, f"log{number}")
        record = {"id": str(number), "size": len(state), **written(layout.into(log))}
        kept.append((record, state))
        old, parts = state, read(record)
    for record, state in kept:
        held = {name: [(0, data[:100]), (100, data[100:])] for name, data in logs.items()}
        assert assembled(record, read(record), held) == state


def _append(layout: Layout, logs: dict[str, bytes], new: str) -> str:
    log = layout.log or new
    assert layout.end == len(logs.get(log, b""))
    logs[log] = logs.get(log, b"") + layout.appended
    return log


def test_small_appends_wait_in_the_checkpoint_and_go_to_the_log_together() -> None:
    state = bytes(range(256)) * 40
    layout, log, end = whole(state), "log", 0
    layout = layout.into(log)
    waited = []
    for _ in range(9):
        end += len(layout.appended)
        record = {"id": "a", "size": len(state), **written(layout)}
        longer = state[:-1] + b"and more" * 90 + b"]"
        layout, state = plan(longer, read(record), state, log, end), longer
        [span, own] = layout.parts
        assert isinstance(span, Span)
        assert (span.log, span.start, span.length) == (log, 0, len(state) - len(own))
        assert len(own) == HELD_BACK if layout.appended else len(own) <= REST_SIZE
        waited.append(not layout.appended)
    assert waited == [True, False] * 4 + [True]
