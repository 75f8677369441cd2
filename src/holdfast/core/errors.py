"""The closed set of errors. Every engine maps its own failures onto these and chains the cause.

A message never holds SQL, a secret, or the id of another tenant's record. ``code`` is stable and
is the same word in HTTP problem details and in the command line's exit status.
"""

from __future__ import annotations

from typing import Any, ClassVar, Final

GOT_LIMIT: Final = 80
"""Most characters that an error repeats of what it was given."""

UNANSWERED: Final = "unanswered"
"""In the context of an error of the way to a server: it was not reached, or did not answer."""


def kind_of(value: object) -> str:
    """What an error says of a value of the wrong kind: never the value itself."""
    if isinstance(value, str):
        return "text" if value else "an empty text"
    return type(value).__name__


class HoldfastError(Exception):
    """Base of every error that holdfast raises.

    ``retryable`` says whether the same call may succeed later without any change by the caller.
    ``hint`` is one sentence that says what to do. ``context`` holds safe facts (names, numbers).
    """

    code: ClassVar[str] = "error"
    retryable: ClassVar[bool] = False
    exit_status: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str = "", **context: Any) -> None:
        super().__init__(f"{message} {hint}" if hint else message)
        self.message = message
        self.hint = hint
        self.context = context


class NotFound(HoldfastError):
    """No such record for this caller. A foreign record and a missing one look the same."""

    code = "not_found"
    exit_status = 3


class Conflict(HoldfastError):
    """A condition, a unique key or a reference did not hold. Nothing was written.

    ``context["unique"]`` names the violated unique key where that was the cause.
    """

    code = "conflict"
    exit_status = 4


class IdempotencyMismatch(Conflict):
    """The operation id was used before with another body. Use a new id for a new operation."""

    code = "idempotency_mismatch"


class Ambiguous(Conflict):
    """A prefix matches more than one record, so none is chosen."""

    code = "ambiguous"


class Invalid(HoldfastError):
    """An argument is of the wrong kind or out of range; raised before any I/O."""

    code = "invalid"
    exit_status = 2

    def __init__(self, field: str, *, expected: str, got: object, hint: str = "") -> None:
        kind = got if isinstance(got, str) else type(got).__name__
        if len(kind) > GOT_LIMIT:
            kind = f"{kind[:GOT_LIMIT]}…"
        super().__init__(
            f"{field}: expected {expected}, got {kind}.",
            hint=hint,
            field=field,
            expected=expected,
            got=kind,
        )
        self.field = field

    def within(self, place: str) -> Invalid:
        """The same of a field of one of several that are given, such as "entries[3]"."""
        context = {name: self.context[name] for name in ("expected", "got")}
        return type(self)(f"{place}.{self.field}", **context, hint=self.hint)


class InvalidText(Invalid):
    """Text with a NUL or a lone surrogate, which not every backend could store."""

    code = "invalid_text"


class InvalidJson(Invalid):
    """JSON that is too deep, not finite, beyond 64-bit integers, or not JSON at all."""

    code = "invalid_json"


class InvalidVector(Invalid):
    """A vector that is not finite, has no direction, or is not a list of numbers."""

    code = "invalid_vector"


class DimensionMismatch(InvalidVector):
    """A vector whose width or embedding space is not that of the store."""

    code = "dimension_mismatch"


class InvalidCursor(Invalid):
    """A cursor that is forged, truncated, or belongs to another tenant or query."""

    code = "invalid_cursor"


class TooLarge(Invalid):
    """A value beyond the stated limit. Nothing is truncated."""

    code = "too_large"


class Busy(HoldfastError):
    """The store stayed locked or saturated until the deadline. Nothing was written."""

    code = "busy"
    retryable = True
    exit_status = 5


class Timeout(HoldfastError):
    """The deadline passed. Nothing was written."""

    code = "timeout"
    retryable = True
    exit_status = 5


class Unavailable(HoldfastError):
    """The store or a service behind it cannot be reached or refused the work for now."""

    code = "unavailable"
    retryable = True
    exit_status = 5


class StorageFull(Unavailable):
    """The disk is full. Nothing was written; reads keep working."""

    code = "storage_full"


class ReadOnly(Unavailable):
    """The store can be read but not written: a read-only disk, file or replica."""

    code = "read_only"
    retryable = False


class UnknownOutcome(HoldfastError):
    """The answer was lost: the write may or may not have happened.

    Repeat the call with the same operation id (``context["op_id"]``): it is applied at most once.
    """

    code = "unknown_outcome"
    retryable = True
    exit_status = 5


class Corrupt(HoldfastError):
    """Stored data cannot be trusted or decoded. Never reported as empty."""

    code = "corrupt"


class SchemaNewer(HoldfastError):
    """The store was written by a newer version. Nothing was written."""

    code = "schema_newer"


class Forbidden(HoldfastError):
    """The handle is not allowed to do this."""

    code = "forbidden"


class Unsupported(HoldfastError):
    """The backend does not offer this; the capability says why."""

    code = "unsupported"
    exit_status = 2


class Closed(HoldfastError):
    """The handle was closed."""

    code = "closed"


class ForkedConnection(HoldfastError):
    """The handle was opened before a fork. Open a new one in the child process."""

    code = "forked_connection"
