"""What is imported when: a process pays for what it uses."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from holdfast.core.collection import Collection
from holdfast.stores import STORES, BuiltIn, BuiltIns
from holdfast.stores.kv import KeyValue
from holdfast.stores.memory.lifecycle import Lifecycle

SOURCE = Path(__file__).resolve().parents[1] / "src"
VERBS = ("stores.memory.memories", "stores.knowledge.knowledge", "stores.tasks.tasks")


def loaded_by(code: str) -> set[str]:
    script = f"import sys\n{code}\nprint(*sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        capture_output=True,
        text=True,
        check=True,
    )
    return {name.removeprefix("holdfast.") for name in run.stdout.split()}


def test_importing_holdfast_loads_no_store_no_engine_and_no_large_package() -> None:
    unwanted = {"numpy", "rich", "click", "apsw", "hashlib", "asyncio", "recall", *VERBS}
    loaded = loaded_by("import holdfast")
    assert "storage" in loaded
    assert not unwanted & loaded


def test_a_store_is_loaded_when_it_is_used() -> None:
    loaded = loaded_by("import holdfast\nholdfast.open('memory:').memory")
    assert VERBS[0] in loaded
    assert not {*VERBS[1:], "stores.memory.hygiene", "recall.dates"} & loaded


def test_the_shapes_that_opening_needs_are_those_of_the_stores() -> None:
    declared = {c.name: c for store in STORES.values() for c in store.collections}
    assert STORES.collections() == declared


def test_a_store_is_known_without_its_import() -> None:
    assert all(STORES.has(kind) for kind in STORES.values())
    assert not STORES.has(Lifecycle)
    elsewhere = BuiltIns({"kv": BuiltIn("no.such.module", "KeyValue", "no.such.module")})
    assert not elsewhere.has(KeyValue)
    with pytest.raises(ModuleNotFoundError):
        elsewhere.collections()


def test_a_declared_field_has_the_type_and_the_default_of_the_struct() -> None:
    class Base(msgspec.Struct):
        id: str

    class Kept(Base, kw_only=True):
        tags: list[str] = []  # noqa: RUF012 - a factory, in a struct
        rank: int | None = 3
        size: float
        revision: int = 0

    shape = Collection.of(Kept, "kept")
    found = {f.name: (f.kind, f.nullable, f.default) for f in shape.fields}
    assert found == {
        "id": ("text", False, None),
        "tags": ("texts", False, []),
        "rank": ("int", True, 3),
        "size": ("float", False, None),
    }
