"""Connectors: how a source is reached. What is secret is kept elsewhere and named here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from holdfast.core.change import ABSENT, Edit, Put
from holdfast.core.errors import Invalid, kind_of
from holdfast.core.filter import eq
from holdfast.core.marks import grouped
from holdfast.core.query import asc
from holdfast.core.values import check_bool, check_text
from holdfast.stores.knowledge.base import KnowledgeStore
from holdfast.stores.knowledge.fields import check_name, check_object
from holdfast.stores.knowledge.records import CONNECTORS, Connector
from holdfast.stores.store import Page, builder

REFERENCES: Final = ("env", "file", "keyring", "vault", "secret")
"""Where a secret may be kept: ``env:WIKI_TOKEN``, ``file:/run/secrets/wiki``, ``vault:kv/wiki``."""

_REFERENCE: Final = rf"(?:{'|'.join(REFERENCES)}):[\w./@-]{{1,300}}"
_VARIABLE: Final = r"[A-Za-z_][A-Za-z0-9_]{0,200}"
_SECRET: Final = (
    r"(?i:pass(?:word|wd|phrase)?|pwd|secret|token|credentials?|api_?key"
    r"|(?:private|access|auth)_?key|authorization|bearer|cookie|signature)"
)
"""Names of what is not written down here."""
_LOGIN: Final = r"\w://[^/\s@]*:[^/\s@]+@"
"""An address with a password in it."""

_build = builder(Connector)


class Connectors(KnowledgeStore):
    """The connectors of the bound scope."""

    @grouped
    def create(
        self,
        name: str,
        kind: str,
        *,
        settings: Mapping[str, Any] | None = None,
        secrets: Mapping[str, str] | None = None,
        enabled: bool = True,
    ) -> Connector:
        """Keep how a source is reached.

        ``secrets`` are references such as ``env:WIKI_TOKEN``, never values. Settings that are
        named like a secret, or hold an address with a password, are refused with Invalid.
        """
        now = self._now()
        row = {
            **self._scope_fields(),
            "id": self._new_id(),
            "name": check_name("name", name),
            "kind": check_name("kind", kind),
            "settings": {} if settings is None else _settings(settings),
            "secrets": _references({} if secrets is None else secrets),
            "enabled": check_bool("enabled", enabled),
            "created_at": now,
            "updated_at": now,
        }
        return _build(self._apply(Put(CONNECTORS.name, row, ABSENT))[0].record)

    def get(self, connector_id: str) -> Connector | None:
        """The connector, or None."""
        found = self._get(CONNECTORS, check_name("connector_id", connector_id))
        return None if found is None else _build(found)

    def list(
        self,
        *,
        kind: str | None = None,
        enabled: bool | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> Page[Connector]:
        """Connectors by name, ties by id. Limit 1 to 1000."""
        return self._page(
            CONNECTORS,
            _build,
            None if kind is None else eq("kind", check_name("kind", kind)),
            None if enabled is None else eq("enabled", check_bool("enabled", enabled)),
            order=asc("name", "id"),
            limit=limit,
            cursor=cursor,
        )

    @grouped
    def update(
        self,
        connector_id: str,
        *,
        name: str | None = None,
        settings: Mapping[str, Any] | None = None,
        secrets: Mapping[str, str] | None = None,
        enabled: bool | None = None,
    ) -> Connector:
        """Change what is given; settings and secrets are replaced whole. NotFound."""
        key = check_name("connector_id", connector_id)
        edits: dict[str, Any] = {"updated_at": self._now()}
        if name is not None:
            edits["name"] = check_name("name", name)
        if settings is not None:
            edits["settings"] = _settings(settings)
        if secrets is not None:
            edits["secrets"] = _references(secrets)
        if enabled is not None:
            edits["enabled"] = check_bool("enabled", enabled)
        return _build(self._patch(CONNECTORS, key, Edit(set=edits)))

    @grouped
    def delete(self, connector_id: str) -> bool:
        """Forget the connector; whether there was one."""
        return self._drop(CONNECTORS, check_name("connector_id", connector_id))


def _settings(value: object) -> dict[str, Any]:
    settings = check_object("settings", value)
    _refuse_secrets("settings", settings)
    return settings


def _refuse_secrets(path: str, value: Any) -> None:
    """Invalid, naming the place and never the value, for what should not be written down."""
    if isinstance(value, dict):
        for name, held in value.items():
            if re.search(_SECRET, name) and isinstance(held, str | list | dict):
                raise Invalid(
                    f"{path}.{name}",
                    expected="a secret by reference, in secrets",
                    got="a value",
                    hint='Give it as secrets={"name": "env:VARIABLE"}.',
                )
            _refuse_secrets(f"{path}.{name}", held)
    elif isinstance(value, list):
        for held in value:
            _refuse_secrets(path, held)
    elif isinstance(value, str) and re.search(_LOGIN, value):
        raise Invalid(path, expected="an address without a password", got="one with it")


def _references(value: object) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise Invalid("secrets", expected="an object of references", got=kind_of(value))
    return {
        check_name("secrets", name): _reference(str(name), held) for name, held in value.items()
    }


def _reference(name: str, value: object) -> str:
    """A place where a secret is kept; the error never shows what was given."""
    text = check_text(f"secrets.{name}", value, 400) if isinstance(value, str) else ""
    where, _, place = text.partition(":")
    if not re.fullmatch(_REFERENCE, text) or (
        where == "env" and not re.fullmatch(_VARIABLE, place)
    ):
        raise Invalid(
            f"secrets.{name}",
            expected=f"a reference: {', '.join(f'{r}:...' for r in REFERENCES)}",
            got="something else",
        )
    return text
