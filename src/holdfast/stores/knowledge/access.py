"""Who may read a document: what its writer says, and what a reader brings along.

Both sides come down to words of one kind, so that a reader's words and a document's have one in
common or not: that is a filter, and every engine judges it before any limit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from holdfast.core.errors import Invalid, InvalidText, TooLarge, kind_of
from holdfast.core.values import LIST_LIMIT, check_text

EVERYBODY: Final = "*"
OPEN: Final = (EVERYBODY,)
"""The words of a document that all of the tenant may read."""
NAME_LIMIT: Final = 256


class Access(msgspec.Struct, frozen=True, kw_only=True):
    """Whom a document admits: everybody, or these users and the members of these groups.

    One that names nobody locks the document.
    """

    public: bool = False
    users: list[str] = []
    groups: list[str] = []


def check_principal(field: str, value: object) -> str:
    """A user's or group's name as it is compared: e-mails without case, all without outer spaces.

    "*" names nobody: it is the word for everybody.
    """
    name = check_text(field, value, NAME_LIMIT).strip()
    if not name or name == EVERYBODY:
        raise Invalid(field, expected="a name", got=repr(name))
    if not name.isprintable():
        raise InvalidText(field, expected="printable characters", got="unprintable text")
    return name.casefold() if "@" in name else name


def words_of_reader(user: object, groups: object) -> tuple[str, ...]:
    """The words of whoever asks; Invalid for names that are none."""
    if isinstance(groups, str | bytes) or not isinstance(groups, Sequence):
        raise Invalid("groups", expected="a list of names", got=kind_of(groups))
    named = [] if user is None else [f"user:{check_principal('user', user)}"]
    member = [f"group:{check_principal(f'groups[{i}]', g)}" for i, g in enumerate(groups)]
    return _limited("groups", [EVERYBODY, *named, *member])


def words_of_document(access: object) -> tuple[tuple[str, ...], bool]:
    """Whom the document admits, and whether what was said of that makes no sense.

    None admits everybody. What makes no sense locks the document rather than open it: it comes
    from systems that may fail. Invalid for what is no access list of any kind.
    """
    if access is None:
        return OPEN, False
    if isinstance(access, Access):
        access = msgspec.structs.asdict(access)
    if not isinstance(access, Mapping):
        raise Invalid("access", expected="an Access, an object or null", got=kind_of(access))
    try:
        return _limited("access", _words(access)), False
    except TooLarge:
        raise
    except Invalid:
        return (), True


def access_of(words: Sequence[str]) -> Access:
    """What the words of a document say."""
    return Access(
        public=EVERYBODY in words,
        users=[word.removeprefix("user:") for word in words if word.startswith("user:")],
        groups=[word.removeprefix("group:") for word in words if word.startswith("group:")],
    )


def _words(access: Mapping[Any, Any]) -> list[str]:
    if access.keys() - {"public", "users", "groups"}:
        raise Invalid("access", expected="public, users and groups", got="another key")
    public = access.get("public", False)
    if type(public) is not bool:
        raise Invalid("public", expected="true or false", got=kind_of(public))
    words = [EVERYBODY] if public else []
    for kind, prefix in (("users", "user"), ("groups", "group")):
        names = access.get(kind, [])
        if not isinstance(names, list | tuple | set | frozenset):
            raise Invalid(kind, expected="a list of names", got=kind_of(names))
        checked = {check_principal(kind, name) for name in names}
        words += [f"{prefix}:{name}" for name in sorted(checked)]
    return words


def _limited(field: str, words: Sequence[str]) -> tuple[str, ...]:
    kept = tuple(dict.fromkeys(words))
    if len(kept) > LIST_LIMIT:
        raise TooLarge(field, expected=f"at most {LIST_LIMIT} names", got=f"{len(kept)}")
    return kept
