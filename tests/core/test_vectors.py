"""Which vectors are sound: finite, and with a direction, whatever the bits of their numbers."""

from __future__ import annotations

import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.core.errors import InvalidVector
from holdfast.core.values import Vector, check_vector

EDGES = (
    0x00000000,  # zero
    0x80000000,  # minus zero
    0x00000001,  # the smallest number
    0x007FFFFF,  # the largest without an exponent
    0x00800000,  # the smallest with one
    0x80FFFFFF,  # the largest whose exponent the last byte does not show
    0x01000000,  # the smallest whose exponent it shows
    0x7E7FFFFF,
    0x7F000000,  # as the last byte shows it, no other than infinity
    0x7F7FFFFF,  # the largest number
    0x7F800000,  # infinity
    0xFF800000,
    0x7FC00000,  # NaN
    0xFFFFFFFF,
)


def is_sound(data: bytes) -> bool:
    try:
        return check_vector("embedding", Vector("space", data)).data == data
    except InvalidVector:
        return False


@given(st.lists(st.sampled_from(EDGES) | st.integers(0, 2**32 - 1), min_size=1, max_size=6))
def test_finite_numbers_of_which_one_is_not_zero_are_sound(bits: list[int]) -> None:
    data = struct.pack(f"<{len(bits)}I", *bits)
    numbers = struct.unpack(f"<{len(bits)}f", data)
    assert is_sound(data) == (all(map(math.isfinite, numbers)) and any(numbers))


@pytest.mark.parametrize("bits", EDGES)
def test_one_number_at_the_edge_decides(bits: int) -> None:
    data = struct.pack("<I", bits)
    [number] = struct.unpack("<f", data)
    assert is_sound(data) == (math.isfinite(number) and number != 0)
