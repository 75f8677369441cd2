"""How a state is written down: spans of logs, and the bytes that stand by themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from holdfast.core.errors import Corrupt
from holdfast.core.filter import Record
from holdfast.stores.checkpoints.delta import copies

INLINE_SIZE: Final = 4_096
"""A state of up to so many bytes stands in its checkpoint: sharing would cost more than it saves,
a row in two more tables at every save and a second read at every load."""
REST_SIZE: Final = 1_024
"""A checkpoint holds up to so many bytes that are in no log: a log need not grow at every save."""
HELD_BACK: Final = 128
"""The end of what is new stays out of the log: it is where the next state will differ."""
SPAN_LIMIT: Final = 32
"""Most spans of a layout before it is drawn together."""
LOG_LIMIT: Final = 8
"""Most logs that one state is spread over."""
SLACK_SIZE: Final = 262_144
"""A log may hold so many bytes more than twice the state, before another one is begun."""
NEW: Final = ""
"""Stands for a log that has yet to be made."""


class Span(NamedTuple):
    """Bytes of a log."""

    log: str
    start: int
    length: int


Part = Span | bytes
"""A piece of a state: of a log, or itself."""
Stretches = Sequence[tuple[int, bytes]]
"""What was read of a log: where each stretch begins, in their order, and its bytes."""


class Layout(NamedTuple):
    """The parts of a state in order, and what ``log`` has yet to be given for it at ``end``.

    A log without a name is one that has yet to be made.
    """

    parts: list[Part]
    appended: bytes = b""
    log: str = NEW
    end: int = 0

    def into(self, log: str) -> Layout:
        """The same with ``log`` for the one that had yet to be made."""
        parts: list[Part] = [
            part if isinstance(part, bytes) else Span(part.log or log, part.start, part.length)
            for part in self.parts
        ]
        return Layout(parts, self.appended, log, self.end)

    def spans(self) -> list[Span]:
        """The parts that are in logs."""
        return [part for part in self.parts if isinstance(part, Span)]

    def size(self) -> int:
        """Bytes of the state."""
        return sum(map(_length, self.parts))

    def logs(self) -> list[str]:
        """Ids of the logs, each once, in the order of the state."""
        return list(dict.fromkeys(span.log for span in self.spans()))

    def fits(self) -> bool:
        """Whether it is short enough to be kept."""
        if len(self.parts) <= LOG_LIMIT:
            return True
        return len(self.spans()) <= SPAN_LIMIT and len(self.logs()) <= LOG_LIMIT


def plan(state: bytes, known: Sequence[Part], old: bytes, log: str, end: int) -> Layout:
    """The layout of a state after an old one whose parts are known, growing ``log`` at ``end``.

    Where many small spans have come together, they are written anew behind one another; and
    where the log has come to hold much that the state does not, all of it into a new log.
    """
    if len(state) <= INLINE_SIZE:
        return Layout([state] if state else [])
    parts = _changed(state, known, old)
    layout = _settled(parts, log, end)
    if not layout.fits():
        small = len(state) * 2 // SPAN_LIMIT
        layout = _settled(_loosened(parts, state, lambda span: span.length < small), log, end)
        if len(layout.spans()) > SPAN_LIMIT // 2 or not layout.fits():
            # It would have to be drawn together again very soon: then rather all at once.
            return whole(state)
    if layout.end + len(layout.appended) > 2 * len(state) + SLACK_SIZE:
        return whole(state)
    return layout


def whole(state: bytes) -> Layout:
    """The layout of a state that shares nothing with another."""
    if len(state) <= INLINE_SIZE:
        return Layout([state] if state else [])
    return _settled([state], NEW, 0)


def _changed(state: bytes, known: Sequence[Part], old: bytes) -> list[Part]:
    """The state as spans of what is known and bytes that are not in a log."""
    parts: list[Part] = []
    done = 0
    for copy in copies(old, state) if known else ():
        if copy.place > done:
            parts.append(state[done : copy.place])
        parts += cut(known, copy.source, copy.source + copy.length)
        done = copy.place + copy.length
    if done < len(state):
        parts.append(state[done:])
    return parts


def _loosened(parts: Iterable[Part], state: bytes, which: Callable[[Span], bool]) -> list[Part]:
    """The same parts of the same state, with some spans as the bytes that they stand for."""
    loosened: list[Part] = []
    place = 0
    for part in parts:
        length = _length(part)
        loose = isinstance(part, Span) and which(part)
        loosened.append(state[place : place + length] if loose else part)
        place += length
    return loosened


def _settled(parts: Iterable[Part], log: str, end: int) -> Layout:
    """Bytes in a row made one; where they are many, all but the end of a long row is appended."""
    joined = _joined(parts)
    if sum([len(part) for part in joined if isinstance(part, bytes)]) <= REST_SIZE:
        return Layout(joined, b"", log, end)
    settled: list[Part] = []
    appended: list[bytes] = []
    begin = end
    for part in joined:
        if isinstance(part, bytes) and len(part) > 2 * HELD_BACK:
            given = part[:-HELD_BACK]
            settled += [Span(log, end, len(given)), part[-HELD_BACK:]]
            appended.append(given)
            end += len(given)
        else:
            settled.append(part)
    return Layout(_joined(settled), b"".join(appended), log, begin)


def _joined(parts: Iterable[Part]) -> list[Part]:
    """Neighbours that continue each other made one."""
    joined: list[Part] = []
    for part in parts:
        last = joined[-1] if joined else None
        if isinstance(part, Span) and isinstance(last, Span):
            if (last.log, last.start + last.length) == (part.log, part.start):
                joined[-1] = Span(last.log, last.start, last.length + part.length)
                continue
        elif isinstance(part, bytes) and isinstance(last, bytes):
            joined[-1] = last + part
            continue
        joined.append(part)
    return joined


def cut(parts: Sequence[Part], start: int, stop: int) -> list[Part]:
    """The parts of the bytes from ``start`` to before ``stop``."""
    found: list[Part] = []
    place = 0
    for part in parts:
        length = _length(part)
        low, high = max(start - place, 0), min(stop - place, length)
        if low < high:
            if isinstance(part, Span):
                found.append(Span(part.log, part.start + low, high - low))
            else:
                found.append(part[low:high])
        place += length
    return found


def written(layout: Layout) -> Record:
    """The fields that keep a layout."""
    logs: list[str] = []
    spans: list[tuple[int, int, int]] = []
    rest = b""
    for part in layout.parts:
        if isinstance(part, bytes):
            spans.append((-1, len(rest), len(part)))
            rest += part
            continue
        log, start, length = part
        if log not in logs:
            logs.append(log)
        spans.append((logs.index(log), start, length))
    return {"logs": logs, "spans": spans, "rest": rest, "rest_size": len(rest)}


def read(record: Record) -> list[Part]:
    """The parts that a stored checkpoint names, or Corrupt."""
    logs, rest = record["logs"], record["rest"]
    parts: list[Part] = []
    try:
        for place, start, length in record["spans"]:
            if place < 0:
                parts.append(rest[start : start + length])
            else:
                parts.append(Span(logs[place], start, length))
        sound = sum(map(_length, parts)) == record["size"]
    except (TypeError, ValueError, IndexError):
        sound = False
    if not sound:
        raise broken(record["id"])
    return parts


def assembled(record: Record, parts: Sequence[Part], bytes_of: Mapping[str, Stretches]) -> bytes:
    """The state, from its parts and the stretches of each log; Corrupt where one is missing."""
    state = b"".join([piece for part in parts for piece in _pieces(record, part, bytes_of)])
    if len(state) != record["size"]:
        raise broken(record["id"])
    return state


def _pieces(record: Record, part: Part, bytes_of: Mapping[str, Stretches]) -> Iterator[bytes]:
    if isinstance(part, bytes):
        yield part
        return
    place, stop = part.start, part.start + part.length
    for start, data in bytes_of.get(part.log, ()):
        if start <= place < min(start + len(data), stop):
            yield data[place - start : stop - start]
            place = start + len(data)
    if place < stop:
        raise broken(record["id"])


def _length(part: Part) -> int:
    return part.length if isinstance(part, Span) else len(part)


def broken(checkpoint_id: str) -> Corrupt:
    """What is said of a checkpoint whose bytes are not all there."""
    return Corrupt(
        "The state of a checkpoint is not whole.",
        hint="Run an integrity check, or take another checkpoint or a backup.",
        record="Checkpoint",
        id=checkpoint_id,
    )
