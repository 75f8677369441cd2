"""Every layer forwards what it is not about: the whole driver suite passes through it."""

from __future__ import annotations

import inspect
import pkgutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from typing import Any

import pytest

from holdfast import layers
from holdfast.core.capabilities import YES, Capabilities
from holdfast.core.change import Delete
from holdfast.core.driver import Driver, FeedEntry, Health, Patience, Report
from holdfast.core.observe import Operation
from holdfast.core.query import Aggregate, Query, Rows
from holdfast.core.search import Hits, Search
from holdfast.layers.breaker import Breaker
from holdfast.layers.check import Checked
from holdfast.layers.layer import Layer
from holdfast.layers.observe import Observed
from holdfast.layers.unit import UnitOfWork
from holdfast.testing import suite
from holdfast.testing.memory import MemoryHarness
from holdfast.testing.shapes import JOBS, NOON, NOTES, SHAPES
from holdfast.testing.stage import Stage

for _name in suite.__all__:
    if _name.startswith(("TestDriver", "TestHostile", "TestStateful")):
        globals()[_name] = getattr(suite, _name)


class _RaisingSink:
    """What the sink does must not show in any case."""

    def operation(self, seen: Operation) -> None:
        raise RuntimeError("the sink is broken")


STACKS: dict[str, Callable[[Driver], Driver]] = {
    "plain layers": lambda driver: Observed(Checked(Layer(Layer(driver))), _RaisingSink()),
    "behind a breaker": lambda driver: Checked(Breaker(driver, Patience(1, 60.0))),
    "checked twice": lambda driver: Layer(Checked(Checked(driver))),
}


@pytest.fixture(params=STACKS)
def stage(request: pytest.FixtureRequest, harness: MemoryHarness) -> Iterator[Stage]:
    made = Stage(harness, STACKS[request.param])
    yield made
    made.close()


@pytest.fixture
def harness() -> MemoryHarness:
    return MemoryHarness()


class _QuietSink:
    def operation(self, seen: Operation) -> None:
        pass


class _Listener(Driver):
    """Answers each verb with a value of its own, and remembers what it was told."""

    name = "listener"
    capabilities = Capabilities(**dict.fromkeys(Capabilities.__struct_fields__, YES))

    def __init__(self) -> None:
        self.told: list[Any] = []

    def _hear(self, answer: Any, *said: Any) -> Any:
        self.told = [inspect.stack()[1].function, *said]
        return answer

    def setup(self, collections: Any, *, create: bool = True) -> None:
        self._hear(None, list(collections))

    def get(self, tenant: Any, collection: Any, key: Any, *, vectors: bool = False) -> Any:
        return self._hear({"id": "heard"}, tenant, collection, key, vectors)

    def apply(self, tenant: Any, changes: Any, *, op_id: Any = None, op_body: Any = None) -> Any:
        return self._hear([], tenant, list(changes), op_id, op_body)

    def query(self, tenant: Any, query: Any) -> Any:
        return self._hear(Rows([]), tenant, query)

    def aggregate(self, tenant: Any, aggregate: Any) -> Any:
        return self._hear([{"count": 1}], tenant, aggregate)

    def search(self, tenant: Any, search: Any) -> Any:
        return self._hear(Hits(exact=False), tenant, search)

    def feed(self, follower: Any, *, after: Any, limit: Any) -> Any:
        entry = FeedEntry(1, "t", "c", ("k",), 1, None, NOON)
        return self._hear([entry], follower, after, limit)

    def maintain(self, task: Any, **options: Any) -> Any:
        return self._hear(Report(task, True, {"heard": 1}), task, options)

    def backup(self, target: Any) -> Any:
        return self._hear(Report("backup", True), target)

    def health(self) -> Any:
        return self._hear(Health(True, "heard"))

    def close(self) -> None:
        self._hear(None)

    def group(self) -> AbstractContextManager[None]:
        block: AbstractContextManager[None] = self._hear(nullcontext())
        return block


CALLS: dict[str, tuple[tuple[Any, ...], dict[str, Any], list[Any]]] = {
    "setup": ((list(SHAPES),), {}, [list(SHAPES)]),
    "get": (("t", JOBS.name, ("a",)), {"vectors": True}, ["t", JOBS.name, ("a",), True]),
    "apply": (
        ("t", [Delete(JOBS.name, ("a",))]),
        {"op_id": "op", "op_body": b"body"},
        ["t", [Delete(JOBS.name, ("a",))], "op", b"body"],
    ),
    "query": (
        ("t", Query(collection=JOBS.name, limit=3)),
        {},
        ["t", Query(collection=JOBS.name, limit=3)],
    ),
    "aggregate": (
        ("t", Aggregate(collection=JOBS.name)),
        {},
        ["t", Aggregate(collection=JOBS.name)],
    ),
    "search": (
        ("t", Search(collection=NOTES.name, k=3)),
        {},
        ["t", Search(collection=NOTES.name, k=3)],
    ),
    "feed": (("f",), {"after": 4, "limit": 5}, ["f", 4, 5]),
    "maintain": (("sweep",), {"now": NOON, "limit": 6}, ["sweep", {"now": NOON, "limit": 6}]),
    "backup": (("target",), {}, ["target"]),
    "health": ((), {}, []),
    "group": ((), {}, []),
    "close": ((), {}, []),
}
"""Verb -> how it is called, and what the engine must be told."""


def _layers() -> list[type[Layer]]:
    for module in pkgutil.iter_modules(layers.__path__, "holdfast.layers."):
        import_module(module.name)

    def below(kind: type[Layer]) -> list[type[Layer]]:
        return [kind, *(deeper for sub in kind.__subclasses__() for deeper in below(sub))]

    ours = [kind for kind in below(Layer) if kind.__module__.startswith("holdfast.layers.")]
    return [kind for kind in ours if not inspect.isabstract(kind)]


def _make(kind: type[Layer], listener: Driver) -> Layer:
    makers: dict[type[Layer], Callable[[], Layer]] = {
        UnitOfWork: lambda: UnitOfWork(listener, {}),
        Observed: lambda: Observed(listener, _QuietSink()),
        Breaker: lambda: Breaker(listener, Patience()),
    }
    made = makers.get(kind, lambda: kind(listener))()
    if kind is not UnitOfWork:
        made.setup(SHAPES)
    return made


KEPT = {(UnitOfWork, "apply")}
"""What a layer is there to hold back."""


def test_every_verb_of_the_contract_is_called_here() -> None:
    assert set(CALLS) == set(Driver.__abstractmethods__)


@pytest.mark.parametrize("verb", CALLS)
@pytest.mark.parametrize("kind", _layers(), ids=lambda kind: kind.__name__)
def test_a_layer_forwards_every_verb_and_its_answer(kind: type[Layer], verb: str) -> None:
    if (kind, verb) in KEPT:
        return
    listener, direct = _Listener(), _Listener()
    positional, named, told = CALLS[verb]
    answer = getattr(_make(kind, listener), verb)(*positional, **named)
    expected = getattr(direct, verb)(*positional, **named)
    assert listener.told == [verb, *told]
    assert answer == expected or isinstance(answer, AbstractContextManager)


@pytest.mark.parametrize("kind", _layers(), ids=lambda kind: kind.__name__)
def test_a_layer_passes_name_and_capabilities_up(kind: type[Layer]) -> None:
    listener = _Listener()
    made = _make(kind, listener)
    assert made.name == listener.name
    assert made.capabilities == listener.capabilities
