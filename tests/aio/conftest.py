"""The store suite through the facade: only cases that hold a Storage have one to go through."""

from __future__ import annotations

import pytest


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    through = [item for item in items if "test_suite_through_aio" in item.nodeid]
    spared = [i for i in through if "open_storage" not in getattr(i, "fixturenames", ())]
    config.hook.pytest_deselected(items=spared)
    items[:] = [item for item in items if item not in spared]
