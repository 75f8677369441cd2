"""Any history of verbs agrees with a model in dictionaries (G9)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from holdfast.core.driver import Driver
from holdfast.testing.stateful import DriverMachine
from holdfast.testing.strategies import examples

HISTORIES = 80
STEPS = 30


class TestStateful:
    def test_g9_any_history_agrees_with_the_model(self, open_driver: Callable[[], Driver]) -> None:
        def machine() -> DriverMachine:
            return DriverMachine(open_driver)

        factory: Any = machine
        run_state_machine_as_test(
            factory,
            settings=settings(
                examples(HISTORIES), stateful_step_count=STEPS, report_multiple_bugs=False
            ),
        )
