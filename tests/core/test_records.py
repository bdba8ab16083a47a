"""What stores keep: generations order tokens, and values show nothing."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from accredit.core.records import Record, Stored, is_newer, next_generation

NONCE = st.integers(0, 2**32 - 1)
NUMBER = st.integers(0, 2**20)


@given(NUMBER, NONCE, NONCE)
def test_the_next_generation_counts_up_and_has_the_given_bits(number: int, bits: int, nonce: int) -> None:
    following = next_generation((number << 32) | bits, nonce)
    assert following >> 32 == number + 1
    assert following & 0xFFFFFFFF == nonce


@given(NUMBER, NONCE, NONCE)
def test_the_next_generation_is_newer_and_never_the_other_way_round(number: int, bits: int, nonce: int) -> None:
    before = (number << 32) | bits
    after = next_generation(before, nonce)
    assert is_newer(after, before)
    assert not is_newer(before, after)
    assert not is_newer(before, before)
    assert is_newer(before, None)


@given(NUMBER, NONCE, NONCE)
def test_two_that_processes_obtained_unseen_are_newer_than_each_other(number: int, one: int, two: int) -> None:
    first, second = (number << 32) | one, (number << 32) | two
    assert is_newer(first, second) == is_newer(second, first) == (one != two)


def test_a_nonce_too_long_is_cut() -> None:
    assert next_generation(0, 2**40 + 5) == (1 << 32) | 5


def test_records_show_no_token() -> None:
    record = Record(b"can4ry", "can4ry", 1.0, 2.0, 3, members=(("a", "can4ry"),))
    assert "can4ry" not in repr(Stored(record, 1.0))
