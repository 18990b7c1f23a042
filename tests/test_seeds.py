"""One seed, named children: a name always gives the same stream, and no stream leaks into another."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trivium import seeds

NAMES = st.lists(st.integers(0, 9) | st.text("abc/0123", max_size=4), max_size=3)


def test_children_never_change() -> None:
    """Results of old runs can be had again only as long as these hold."""
    assert seeds.child(0) == 919140953729665066
    assert seeds.child(0, "order", 3) == 6519300195113190764
    assert seeds.child(7, "mask", "0") == 3629120102107906004


@given(st.integers(0, 3), NAMES, st.integers(0, 3), NAMES)
@settings(max_examples=200, deadline=None)
def test_children_differ_when_seed_or_names_do(
    seed: int, names: list[str | int], other: int, others: list[str | int]
) -> None:
    same = (seed, *map(str, names)) == (other, *map(str, others))
    assert (seeds.child(seed, *names) == seeds.child(other, *others)) == same
    assert 0 <= seeds.child(seed, *names) < 2**63


def test_names_are_not_glued_together() -> None:
    children = [seeds.child(0, *names) for names in (("ab",), ("a", "b"), ("b", "a"), ("", "ab"), ())]
    assert len({*children, seeds.child(1), seeds.child(11), seeds.child(1, 1)}) == 8


def test_streams_of_siblings_have_nothing_in_common() -> None:
    first, second = (seeds.numpy_rng(0, "order", n).random(2000) for n in (0, 1))
    assert np.intersect1d(first, second).size == 0
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.1
    draws = [torch.rand(2000, generator=seeds.torch_rng(0, "order", n)) for n in (0, 1)]
    assert abs(torch.corrcoef(torch.stack(draws))[0, 1]) < 0.1


def test_a_name_gives_the_same_stream_again() -> None:
    assert (
        seeds.numpy_rng(3, "x").integers(99, size=9).tolist() == seeds.numpy_rng(3, "x").integers(99, size=9).tolist()
    )
    again = [torch.rand(9, generator=seeds.torch_rng(3, "x")).tolist() for _ in range(2)]
    assert again[0] == again[1]


def test_a_scope_is_seeded_and_leaves_no_trace_even_after_an_error() -> None:
    def draw_and_fail() -> None:
        with seeds.torch_scope(0, "weights"):
            drawn.append(torch.rand(5).tolist())
            raise KeyError

    drawn: list[list[float]] = []
    with seeds.torch_scope(1):
        before = torch.get_rng_state()
        for _ in range(2):
            with pytest.raises(KeyError):
                draw_and_fail()
            assert torch.equal(before, torch.get_rng_state())
            torch.rand(1)
            before = torch.get_rng_state()
    assert drawn[0] == drawn[1]


def test_reseeding_forgets_what_was_drawn_before() -> None:
    with seeds.torch_scope(0):
        torch.rand(3)
        seeds.reseed_torch(0, "update", 4)
        fourth = torch.rand(5)
    with seeds.torch_scope(1):
        torch.rand(8)
        seeds.reseed_torch(0, "update", 4)
        assert torch.equal(fourth, torch.rand(5))


def test_numpys_global_generator_is_left_alone() -> None:
    before = np.random.get_state(legacy=False)["state"]["key"].copy()  # noqa: NPY002 - to see that nobody touches it
    seeds.numpy_rng(0, "x").random(1000)
    with seeds.torch_scope(0):
        torch.rand(10)
    assert (np.random.get_state(legacy=False)["state"]["key"] == before).all()  # noqa: NPY002
