"""Optional parts, which are installed with an extra of the package."""

from __future__ import annotations

from holdfast.core.errors import Unsupported


def lacking(what: str, extra: str, *, also: str = "") -> Unsupported:
    """The error of what needs an extra that is not installed, however holdfast was.

    ``also`` is what the extra does not bring. The command depends on where holdfast comes from,
    a clone or an index, so that the hint names none.
    """
    hint = f"Install holdfast with this extra, as holdfast[{extra}]{also}."
    return Unsupported(what, hint=hint, extra=extra)
