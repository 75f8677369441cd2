"""No hidden clock or chance, no code from data, no names that fit anything."""

from __future__ import annotations

import pytest

from tests.tidy.banned import (
    bare_excepts,
    code_from_data,
    empty_names,
    hidden_inputs,
    sleeping_cases,
    words,
)
from tests.tidy.conftest import Tree
from tests.tidy.source import SRC, assert_clean


def test_a18_core_and_stores_get_their_clock_and_chance_handed_in() -> None:
    assert_clean(hidden_inputs(SRC))


def test_a18_no_case_of_the_suite_sleeps() -> None:
    assert_clean(sleeping_cases(SRC))


def test_saboteur_sleeping_case_is_caught(tree: Tree) -> None:
    for code in ("import time\ntime.sleep(1)", "from asyncio import sleep\nawait sleep(1)"):
        assert sleeping_cases(tree({"holdfast/testing/suite/x.py": code}))


def test_stored_data_never_becomes_code() -> None:
    assert_clean(code_from_data(SRC))


def test_there_is_no_bare_except() -> None:
    assert_clean(bare_excepts(SRC))


def test_names_say_what_a_thing_is() -> None:
    assert_clean(empty_names(SRC))


HIDDEN = [
    "import time\nx = time.time()",
    "import time as t\nx = t.time_ns()",
    "from time import time\nx = time()",
    "from time import sleep as rest\nrest(1)",
    "import time\ndef f(clock=time.monotonic): ...",
    "import datetime\nx = datetime.datetime.now()",
    "from datetime import datetime, UTC\nx = datetime.now(UTC)",
    "from datetime import datetime as dt\nx = dt.utcnow()",
    "from datetime import date\nx = date.today()",
    "import random\nx = random.random()",
    "from random import choice\nx = choice([1])",
    "import uuid\nx = uuid.uuid4()",
    "from uuid_utils import uuid7\nx = uuid7()",
    "import secrets\nx = secrets.token_hex()",
    "import os\nx = os.urandom(8)",
    "import numpy as np\nx = np.random.default_rng()",
    "def f():\n    import time\n    time.sleep(1)",
]


@pytest.mark.parametrize("folder", ["core", "stores"])
@pytest.mark.parametrize("text", HIDDEN)
def test_saboteur_hidden_input_is_caught(text: str, folder: str, tree: Tree) -> None:
    assert len(hidden_inputs(tree({f"holdfast/{folder}/a.py": text}))) == 1


def test_the_clock_module_and_the_engines_are_free(tree: Tree) -> None:
    root = tree(
        {
            "holdfast/core/clock.py": HIDDEN[0],
            "holdfast/backends/sqlite.py": HIDDEN[0],
            "holdfast/core/b.py": "from datetime import datetime\nfrom uuid import UUID\n"
            "def f(time: datetime, x: UUID): return time.isoformat()",
        }
    )
    assert not hidden_inputs(root)


CODE = [
    "import pickle",
    "from pickle import loads",
    "import marshal",
    "def f():\n    import dill",
    "x = eval('1')",
    "exec('x = 1')",
    "import numpy\nx = numpy.load('a', allow_pickle=True)",
    "import numpy\nx = numpy.load('a', allow_pickle=flag)",
    "import importlib\nx = importlib.import_module('pickle')",
]


@pytest.mark.parametrize("text", CODE)
def test_saboteur_code_from_data_is_caught(text: str, tree: Tree) -> None:
    assert len(code_from_data(tree({"holdfast/cli/a.py": text}))) == 1


def test_a_method_named_exec_passes(tree: Tree) -> None:
    text = "cursor.exec('x')\nnumpy.load('a', allow_pickle=False)"
    assert not code_from_data(tree({"holdfast/a.py": text}))


def test_saboteur_bare_except_is_caught(tree: Tree) -> None:
    root = tree({"holdfast/a.py": "try:\n    x = 1\nexcept:\n    pass"})
    assert [v.line for v in bare_excepts(root)] == [3]


@pytest.mark.parametrize(
    "path", ["util.py", "utils/__init__.py", "stores/task_helpers.py", "common.py"]
)
def test_saboteur_empty_module_name_is_caught(path: str, tree: Tree) -> None:
    assert len(empty_names(tree({f"holdfast/{path}": "x = 1"}))) == 1


@pytest.mark.parametrize("name", ["TaskManager", "SQLHelpers", "JsonUtil", "_CommonThing"])
def test_saboteur_empty_class_name_is_caught(name: str, tree: Tree) -> None:
    assert len(empty_names(tree({"holdfast/a.py": f"class {name}: ..."}))) == 1


def test_words_are_words() -> None:
    assert words("SQLHelpers") == {"sql", "helper"}
    assert words("Utilities") == {"utility"}
    assert not words("Commonwealth") & {"common"}
