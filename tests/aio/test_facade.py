"""The facade is complete, says what the plain classes say, and is fresh."""

from __future__ import annotations

import inspect
import subprocess
import sys
import typing
from collections.abc import AsyncIterator, Generator, Iterable, Iterator
from functools import cached_property
from pathlib import Path
from types import FunctionType
from typing import Any

import msgspec
import pytest

import holdfast
from holdfast import aio
from holdfast.stores import STORES
from holdfast.stores.store import Store

ROOT = Path(__file__).resolve().parents[2]
FACADES: dict[type, type] = {
    inspect.signature(facade, eval_str=True).parameters["below"].annotation: facade
    for name in aio.__all__
    if isinstance(facade := getattr(aio, name), type)
}
BY_NAME = {plain.__name__: plain for plain in FACADES}
ITERATORS = (Iterator, Iterable, Generator)
PUBLIC = [
    pytest.param(plain, name, id=f"{plain.__name__}.{name}")
    for plain in FACADES
    for name in dir(plain)
    # Class attributes are for who writes a store, not for who calls one.
    if not name.startswith("_")
    and isinstance(inspect.getattr_static(plain, name), FunctionType | property | cached_property)
]


def test_the_file_is_fresh() -> None:
    checked = subprocess.run(
        [sys.executable, "tools/generate_aio.py", "--check"],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr


def test_importing_holdfast_imports_no_event_loop() -> None:
    script = "import sys, holdfast; print('asyncio' in sys.modules); holdfast.aio.open"
    run = subprocess.run(
        [sys.executable, "-c", script],
        env={"PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.split() == ["False"]


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = holdfast.nothing


def test_every_store_and_every_facet_has_its_facade() -> None:
    storage = holdfast.open("memory:")
    seen: list[Any] = [storage]
    for holder in seen:
        for name in dir(type(holder)):
            is_property = not isinstance(getattr(type(holder), name), FunctionType)
            if name.startswith("_") or not is_property:
                continue
            value = getattr(holder, name)
            if _has_verbs(value) and not any(type(value) is type(known) for known in seen):
                seen.append(value)
    assert {type(value) for value in seen} <= set(FACADES)
    assert set(STORES.values()) <= set(FACADES)
    storage.close()


def _has_verbs(value: object) -> bool:
    kind = type(value)
    values = isinstance(value, type | msgspec.Struct | tuple | str | int | list | dict)
    return isinstance(value, Store) or (
        kind.__module__.startswith("holdfast.stores") and not values
    )


@pytest.mark.parametrize(("plain", "name"), PUBLIC)
def test_every_public_name_is_there_with_the_same_signature(plain: type, name: str) -> None:
    facade = FACADES[plain]
    assert hasattr(facade, name), f"{facade.__name__} lacks {name}"
    ours, theirs = inspect.getattr_static(facade, name), inspect.getattr_static(plain, name)
    assert isinstance(ours, FunctionType) == isinstance(theirs, FunctionType)
    if not isinstance(ours, FunctionType):
        return
    assert _shape(ours) == _shape(theirs)
    assert inspect.cleandoc(ours.__doc__ or "") == inspect.cleandoc(theirs.__doc__ or "")
    mine = typing.get_type_hints(ours)
    hints = typing.get_type_hints(theirs, localns=BY_NAME)  # which imports stores when used
    returned = hints.pop("return")
    ours_returned = mine.pop("return")
    assert mine == hints
    if typing.get_origin(returned) in ITERATORS:
        assert typing.get_origin(ours_returned) is AsyncIterator
        [item] = {typing.get_args(returned)[0]}
        assert typing.get_args(ours_returned) == (FACADES.get(item, item),)
    else:
        assert ours_returned == FACADES.get(returned, returned)
        assert inspect.iscoroutinefunction(ours) == (returned not in FACADES)


def _shape(function: FunctionType) -> dict[str, tuple[Any, Any]]:
    parameters = inspect.signature(function).parameters.values()
    return {p.name: (p.kind, p.default) for p in parameters}


def test_open_takes_what_the_plain_one_takes() -> None:
    plain = inspect.signature(holdfast.open).parameters
    ours = dict(inspect.signature(aio.open).parameters)
    assert ours.pop("workers").default is None
    assert {n: (p.kind, p.default, p.annotation) for n, p in ours.items()} == {
        n: (p.kind, p.default, p.annotation) for n, p in plain.items()
    }
