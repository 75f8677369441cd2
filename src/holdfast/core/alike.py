"""Records that look alike are checked alike: what there is to look at is found once for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any

import msgspec

from holdfast.core.values import KEYED_TEXT_LIMIT, TEXT_LIMIT, check_keyed_text, check_text

Check = Callable[[str, object], Any]
Pick = Callable[[Mapping[str, Any]], tuple[Any, ...]]
"""Takes the values under some names out of a record."""


class Alike(msgspec.Struct, frozen=True, eq=False):
    """How records are checked that have the same fields with values of the same types.

    Their texts are looked at as one: nearly always that shows all of them to be sound.
    """

    texts: Pick | None
    keyed: Pick | None
    """Those of the texts that are kept short."""
    others: tuple[tuple[str, Check], ...]
    """What is checked one by one, in the order of the record."""
    whole: bool
    """Whether they bring every field, in the declared order."""

    def is_sound(self, record: Mapping[str, Any]) -> bool:
        """Whether no check would refuse a text of the record."""
        if self.texts is None:
            return True
        text = "".join(self.texts(record))
        if len(text) > KEYED_TEXT_LIMIT:
            keyed = () if self.keyed is None else self.keyed(record)
            if len(text) > TEXT_LIMIT or max(map(len, keyed), default=0) > KEYED_TEXT_LIMIT:
                return False
        return "\x00" not in text and (text.isascii() or _is_unicode(text))


def alike(types: Mapping[str, type], checks: Mapping[str, Check], *, whole: bool) -> Alike:
    """How records are checked that have these fields with values of these types."""
    given = {name: checks[name] for name, kind in types.items() if kind is not type(None)}
    keyed = [name for name, check in given.items() if check is check_keyed_text]
    texts = [name for name, check in given.items() if check is check_text or name in keyed]
    texts, keyed = ([name for name in some if types[name] is str] for some in (texts, keyed))
    return Alike(
        picker(texts) if texts else None,
        picker(keyed) if keyed else None,
        tuple((name, check) for name, check in given.items() if name not in texts),
        whole,
    )


def picker(names: Sequence[str]) -> Pick:
    """What takes the values under these names, one at least, out of a record."""
    if len(names) == 1:
        return lambda record: (record[names[0]],)
    return itemgetter(*names)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
