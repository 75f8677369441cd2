"""Who is asking. The tenant isolates; agent, user and namespace narrow."""

from __future__ import annotations

from enum import Enum
from typing import Final

import msgspec

from holdfast.core.errors import Invalid, InvalidText, kind_of
from holdfast.core.values import check_text


class _EveryTenant(Enum):
    EVERY_TENANT = "every tenant"

    def __repr__(self) -> str:
        return "EVERY_TENANT"


EVERY_TENANT: Final = _EveryTenant.EVERY_TENANT
"""Read across tenants. Not a string, so no caller's text can ever mean it; admin handles only."""

Tenant = str | _EveryTenant
"""What a driver verb is bound to: one tenant's name, or EVERY_TENANT for administrative reads."""

SCOPE_FIELDS: Final = ("agent", "user", "namespace")
NAME_LIMIT: Final = 256
"""Longest tenant, agent, user or namespace name, in characters."""


class Scope(msgspec.Struct, frozen=True, kw_only=True):
    """A tenant and, optionally, what narrows it.

    None leaves that part unbound: written records carry an empty string there and reads see all.
    A bound part is the default on write and a filter on read.
    """

    tenant: str = "default"
    agent: str | None = None
    user: str | None = None
    namespace: str | None = None

    def __post_init__(self) -> None:
        for part in ("tenant", *SCOPE_FIELDS):
            value = getattr(self, part)
            if value is not None or part == "tenant":
                name = check_name(part, value)
                if name is not value:
                    msgspec.structs.force_setattr(self, part, name)

    def bound(self) -> dict[str, str]:
        """The bound parts below the tenant, by field name."""
        parts = {part: getattr(self, part) for part in SCOPE_FIELDS}
        return {part: value for part, value in parts.items() if value is not None}

    def operation(self, op_id: str | None) -> str | None:
        """The operation id as the engine keeps it.

        Engines keep one set of ids per tenant. That of a bound handle carries what is bound, so
        that another agent with the same id neither gets this one's outcome nor loses its write.
        """
        if op_id is None or not self.bound():
            return op_id
        op_id = check_text("op_id", op_id, NAME_LIMIT)
        parts = (self.agent, self.user, self.namespace, op_id)
        from hashlib import sha256  # 3 ms that few processes need spend

        return sha256(msgspec.json.encode(parts)).hexdigest()


def check_name(field: str, value: object) -> str:
    """Return ``value`` if it can name a tenant, agent, user or namespace; else raise Invalid."""
    if not isinstance(value, str):
        raise Invalid(field, expected="text", got=kind_of(value))
    if not value or len(value) > NAME_LIMIT or value.strip() != value:
        raise Invalid(
            field,
            expected=f"1 to {NAME_LIMIT} characters without outer spaces",
            got=f"{len(value)} characters",
        )
    if not value.isprintable():
        raise InvalidText(field, expected="printable characters", got="unprintable text")
    return str.__str__(value)
