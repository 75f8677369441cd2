"""The suite catches every engine that is broken on purpose, and blames no sound one."""

import pytest

from holdfast.testing.memory import MemoryHarness
from holdfast.testing.saboteurs import SABOTEURS, Saboteur

# Other engines join by their harness; saboteurs of one engine's inside stay with that engine.
HARNESSES = [MemoryHarness]

CAUGHT = (Exception, pytest.fail.Exception)


@pytest.mark.parametrize("harness", HARNESSES)
@pytest.mark.parametrize("saboteur", SABOTEURS, ids=lambda s: s.name)
def test_the_named_case_fails_on_the_saboteur(
    saboteur: Saboteur, harness: type[MemoryHarness]
) -> None:
    with pytest.raises(CAUGHT):
        saboteur.play(harness())


@pytest.mark.parametrize("harness", HARNESSES)
@pytest.mark.parametrize("saboteur", SABOTEURS, ids=lambda s: s.name)
def test_the_named_case_passes_on_the_sound_engine(
    saboteur: Saboteur, harness: type[MemoryHarness]
) -> None:
    saboteur.play_sound(harness())


def test_there_are_saboteurs_enough() -> None:
    assert len({saboteur.name for saboteur in SABOTEURS}) == len(SABOTEURS) >= 12
