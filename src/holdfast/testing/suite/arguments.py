"""Every argument of every public method, given what it cannot mean: P5-P7, P16.

The sweep needs no list of arguments: it takes each method's own, and for the others of a call
those that `holdfast.testing.scope_calls` gives. So a method that is added is in it.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest

from holdfast.core.clock import ManualClock
from holdfast.core.driver import Driver
from holdfast.core.errors import GOT_LIMIT, Invalid
from holdfast.core.scope import Scope
from holdfast.storage import Storage, all_collections
from holdfast.stores.tasks.records import TaskFilter
from holdfast.testing.races import Counting
from holdfast.testing.scope_calls import CALLS, seed
from holdfast.testing.stage import runtime


class _Torn:
    """Neither true nor false, and equal to nothing: an array of two numbers is like that."""

    def __bool__(self) -> bool:
        raise ValueError("neither true nor false")

    def __eq__(self, other: object) -> bool:
        raise ValueError("neither equal nor not")

    __hash__ = None  # type: ignore[assignment]


DEEP: Final[list[Any]] = []
for _ in range(10_000):
    DEEP[:] = [[*DEEP]]

SENSELESS: Final[dict[str, Any]] = {
    "of no kind": object(),
    "neither true nor false": _Torn(),
    "NUL": "a\x00",
    "lone surrogate": "a\ud800",
    "deeper than any stack": DEEP,
    "long": "x" * 100_000 + "\x00",
}
ANYTHING: Final = {
    "kv.get default",  # given back as it is and never stored
    "memory.recall vector",  # F7: one that cannot be compared matches nothing, which is flagged
}
UNKNOWN: Final = "nobody_knows_this"
"""A field or filter that no store has."""
SIGNED: Final = "cursor"
"""Whether somebody forged it is told by the tenant's key, which is read once."""
ALSO_CALLED: Final = {
    "tag": "collection",
    "lines": "line 1",
    **dict.fromkeys(("origin", "target", "old", "new"), "namespace"),
    "draft": "title",
    "entries": "content",
    "conversation_metadata": "metadata",
    "key": "anchor",
}
"""Arguments that an error may name by what they are."""


SEARCHES: Final = {
    "conversations.search": "query",
    "knowledge.search": "query",
    "knowledge.library.search": "query",
    "memory.recall": "query",
    "tasks.search": "text",
    "tool_events.search": "query",
}
"""What takes words to look for, and the argument that has them."""


def _recalled(mode: Any, **filters: Any) -> tuple[Callable[[Storage, str], object], str]:
    [field] = filters
    return lambda storage, words: storage.memory.recall(words, mode=mode, **filters), field


def _found(**given: Any) -> tuple[Callable[[Storage, str], object], str]:
    [field] = given
    return lambda storage, words: storage.tasks.search(words, TaskFilter(**given)), field


WRONG_FILTERS: Final[dict[str, dict[str, Any]]] = {
    "NaN": {"metadata": {"a": float("nan")}},
    "no NaN": {"metadata_not": {"a": float("nan")}},
    "2**70": {"metadata": {"a": 2**70}},
    "NUL": {"metadata": {"a": "\x00"}},
    "a quote in a path": {"metadata": {"a'b": 1}},
    "no key in a path": {"metadata_not": {"a..b": 1}},
    "a number among ids": {"ids": [5]},
}
WRONG_INSIDE: Final[dict[str, tuple[Callable[[Storage, str], object], str]]] = {
    f"{name}, {mode}": _recalled(mode, **filters)
    for mode in ("hybrid", "keyword")
    for name, filters in WRONG_FILTERS.items()
} | {
    "a team that is a number": _found(team=5),
    "an assignee with NUL": _found(assignee="\x00"),
    "a parent that is bytes": _found(parent_id=b"x"),
    "a project that is a list": _found(project_id=["x"]),
    "due before a text": _found(due_before="x"),
    "due after a number": _found(due_after=5),
    "a tag that is a number": _found(tags=[5]),
}
"""Searches whose narrowing is wrong inside, and the field that the error names."""


class _Caught(Exception):
    """Carries what a call was given."""


class TestArguments:
    @pytest.mark.parametrize("name", SENSELESS)
    def test_p5_every_argument_is_checked_before_anything_is_read(
        self, driver: Driver, clock: ManualClock, name: str
    ) -> None:
        storage, counting = _counted(driver, clock)
        faults = [
            fault
            for path, method, given in _calls(storage, seed(storage))
            for fault in _faults(counting, path, method, given, SENSELESS[name])
        ]
        assert not faults, "\n".join(faults)

    @pytest.mark.parametrize("words", ["", "the"])
    @pytest.mark.parametrize("name", SENSELESS)
    def test_p5_also_where_no_word_is_left_to_look_for(
        self, driver: Driver, clock: ManualClock, name: str, words: str
    ) -> None:
        storage, counting = _counted(driver, clock)
        faults: list[str] = []
        for path, method, given in _calls(storage, seed(storage)):
            if path in SEARCHES:
                wordless = {**given, SEARCHES[path]: words}
                if "mode" in _arguments(method):
                    wordless["mode"] = "keyword"
                faults += _faults(counting, path, method, wordless, SENSELESS[name])
        assert not faults, "\n".join(faults)

    @pytest.mark.parametrize("words", ["tea", "the", ""])
    @pytest.mark.parametrize("search", WRONG_INSIDE)
    def test_p5_what_an_argument_holds_is_checked_before_anything_is_read(
        self, driver: Driver, clock: ManualClock, search: str, words: str
    ) -> None:
        storage, counting = _counted(driver, clock)
        storage.memory.remember("tea for two", speaker="Ada", metadata={"a": 1.0})
        call, field = WRONG_INSIDE[search]
        counting.calls.clear()
        with pytest.raises(Invalid) as refused:
            call(storage, words)
        assert refused.value.field.startswith(field)
        assert not counting.calls

    def test_a20_no_error_repeats_a_text_where_another_kind_was_meant(
        self, storage: Storage
    ) -> None:
        secret: Any = "hunter2-hunter2-hunter2"
        calls: list[Callable[[], object]] = [
            lambda: storage.audit.export_anchor(key=secret),
            lambda: storage.audit.verify(anchor=secret, key=secret),
            lambda: storage.kv.list(limit=secret),
            lambda: storage.kv.set("k", 1, ttl_seconds=secret),
            lambda: storage.memory.remember("content", vector=secret),
            lambda: storage.memory.remember("content", metadata=secret),
            lambda: storage.memory.recall("query", threshold=secret),
            lambda: storage.memory.recall("query", explain=secret),
            lambda: storage.memory.list(created_from=secret),
            lambda: storage.tasks.list(secret),
            lambda: storage.tasks.post("title", depends_on=secret),
            lambda: storage.knowledge.put("d", "content", access=secret),
            lambda: storage.knowledge.connectors.create("wiki", "web", secrets={"token": secret}),
            lambda: storage.knowledge.connectors.create("wiki", "web", secrets=secret),
            lambda: storage.conversations.create(metadata=secret),
            lambda: storage.checkpoints.save(secret, iteration=1),
        ]
        for call in calls:
            with pytest.raises(Invalid) as refused:
                call()
            assert "hunter2" not in f"{refused.value} {refused.value.context!r}"


def _counted(driver: Driver, clock: ManualClock) -> tuple[Storage, Counting]:
    """A handle whose engine counts what reaches it from below the check."""
    driver.setup(all_collections())
    counting = Counting(driver.below)  # type: ignore[attr-defined]
    driver.below = counting  # type: ignore[attr-defined]
    scope = Scope(agent="mine", user="mine")
    return Storage(driver, scope, runtime(clock, "id7")), counting


def _calls(
    storage: Storage, ids: dict[str, Any]
) -> Iterator[tuple[str, Callable[..., Any], dict[str, Any]]]:
    """Every public method, bound, with the arguments that the sweep of isolation gives it."""
    for path, call in CALLS.items():
        *stores, name = path.split(".")
        store: Any = storage
        for part in stores:
            store = getattr(store, part)
        kind = next(c for c in type(store).__mro__ if name in vars(c))
        function = vars(kind)[name]

        def caught(*given: Any, **named: Any) -> None:
            raise _Caught(given, named)

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(kind, name, caught)
            with pytest.raises(_Caught) as found:
                call(storage, ids)
        given, named = found.value.args
        bound = inspect.signature(function).bind(*given, **named).arguments
        (itself, on), *others = bound.items()
        assert itself == "self"
        yield path, getattr(on, name), _spread(function, dict(others))


def _spread(function: Callable[..., Any], given: dict[str, Any]) -> dict[str, Any]:
    """The arguments by name, those of ``**fields`` too, those of ``*ids`` left out."""
    for name, one in inspect.signature(function).parameters.items():
        if one.kind is one.VAR_KEYWORD:
            given.update(given.pop(name, {}))
        elif one.kind is one.VAR_POSITIONAL:
            given.pop(name, None)
    return given


def _arguments(method: Callable[..., Any]) -> list[str]:
    """The names of what the method takes one of, those of ``**fields`` too, and one unknown."""
    names: list[str] = []
    for name, one in inspect.signature(method).parameters.items():
        if one.kind is one.VAR_KEYWORD:
            written = str(one.annotation).removeprefix("Unpack[").removesuffix("]")
            fields = getattr(sys.modules[method.__module__], written)
            names += [*fields.__annotations__, UNKNOWN]
        elif one.kind is not one.VAR_POSITIONAL:
            names.append(name)
    return names


def _faults(
    counting: Counting, path: str, method: Callable[..., Any], given: dict[str, Any], value: Any
) -> Iterator[str]:
    """What is wrong with how the method takes the value for each of its arguments in turn."""
    for argument in _arguments(method):
        if f"{path} {argument}" in ANYTHING:
            continue
        counting.calls.clear()
        told = _refusal(method, {**given, argument: value}, argument)
        if told is None and counting.calls and argument != SIGNED:
            told = f"was refused after {counting.calls}"
        if told is not None:
            yield f"{path}({argument}=...): {told}"


def _refusal(method: Callable[..., Any], given: dict[str, Any], argument: str) -> str | None:
    """What is wrong with how the method refuses; None when it does so as it should."""
    try:
        method(**given)
    except Invalid as error:
        if len(str(error)) > GOT_LIMIT + 400:
            return f"a message of {len(str(error))} characters"
        field = error.field
        named = field.startswith((argument, ALSO_CALLED.get(argument, argument)))
        return None if named or field in argument else f"the error names {field}"
    except Exception as error:  # noqa: BLE001 - any other is a finding
        return f"raised {type(error).__name__}: {str(error)[:100]}"
    return "accepted it"
